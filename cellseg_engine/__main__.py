"""``python -m cellseg_engine`` is the command line."""

from cellseg_engine.cli.main import main

if __name__ == "__main__":
    main()
