"""What `tools/render_contract.py` writes, one module for each kind of file."""
