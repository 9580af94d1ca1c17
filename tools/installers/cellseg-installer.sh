#!/bin/sh
# Installs CellSeg and puts it into CellProfiler and Fiji, for people who use no terminal.
# Linux and macOS; see README.md beside this file. Windows has a script of its own.
#
#   cellseg-installer.sh [--fiji DIR] [--plugins-directory DIR] [--no-wait]
#   cellseg-installer.sh --uninstall [--no-wait]
#
# All that it makes lies in one folder, "cellseg-bridges/installer" in the user's data folder;
# nothing needs the rights of an administrator, and no start-up file of a shell is changed.

set -u

PACKAGE='cellseg-engine'
PYTHONS='>=3.11,<3.14' # those that all dependencies have ready-made packages for
UV_ADDRESS=https://astral.sh/uv/install.sh
TAB=$(printf '\t')
FIND_PLUGINS='
import os, sys
from cellseg_engine.hosts.cellprofiler import read_plugins_directory
folder = read_plugins_directory()
if folder is not None and folder.is_dir():
    sys.stdout.buffer.write(os.fsencode(folder))
'

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
wait=yes
task=install
fiji=${FIJI_HOME:-}
plugins=

# --- talking -------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

step() { printf '\n== %s\n' "$*"; }

finish() { # the last words, and the exit status
    status=$1
    shift
    printf '\n%s\n' "$*"
    if [ "$wait" = yes ] && [ -t 0 ]; then
        printf '\nPress Enter to close this window. '
        read -r _ || true
    fi
    exit "$status"
}

fail() { finish 1 "CellSeg was not ${task}ed: $*"; }

ask_folder() { # a question; the answer, without quotes and the space that dragging a folder adds
    [ "$wait" = yes ] && [ -t 0 ] || return 0
    printf '%s\n(drag the folder into this window and press Enter; only Enter leaves it out): ' "$1" >&2
    # shellcheck disable=SC2162 # a dragged folder has its spaces as "\ ", which read without -r undoes
    read answer || answer=
    printf '%s' "$answer" | sed -e "s/^[[:space:]]*['\"]*//" -e "s/['\"]*[[:space:]]*$//"
}

# --- places --------------------------------------------------------------------------------------

set_places() {
    [ -n "${HOME:-}" ] || fail "the variable HOME, your home folder, is not set."
    if [ "$(uname -s)" = Darwin ]; then
        parent="$HOME/Library/Application Support/cellseg-bridges"
    else
        parent="${XDG_DATA_HOME:-$HOME/.local/share}/cellseg-bridges"
    fi
    data=$parent/installer # beside it lies what Fiji's own Install Engine makes
    environment=$data/environment
    python=$environment/bin/python
    cellseg=$environment/bin/cellseg
    hosts=$data/hosts.txt
    marker=$data/made-by-cellseg-installer
}

find_fiji() {
    for folder in "$HOME/Fiji.app" "$HOME/Fiji" "$HOME/Desktop/Fiji.app" "$HOME/Desktop/Fiji" \
        "$HOME/Downloads/Fiji.app" "$HOME/Downloads/Fiji" "$HOME/Applications/Fiji.app" \
        /Applications/Fiji.app /Applications/Fiji /opt/Fiji.app /opt/Fiji; do
        if [ -d "$folder/jars" ] && [ -d "$folder/plugins" ]; then
            printf '%s' "$folder"
            return
        fi
    done
}

# --- the engine ----------------------------------------------------------------------------------

find_uv() {
    for uv in "$(command -v uv)" "$data/uv/uv" "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
        [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1 && return
    done
    fetch_uv
    uv=$data/uv/uv
}

fetch_uv() {
    step "Getting uv, which installs Python packages ($UV_ADDRESS)"
    script=$data/install-uv.sh
    if command -v curl >/dev/null; then
        curl -LsSf "$UV_ADDRESS" -o "$script"
    elif command -v wget >/dev/null; then
        wget -qO "$script" "$UV_ADDRESS"
    else
        give_up "neither curl nor wget is there to download uv; install one of them, or uv itself."
    fi || give_up "uv could not be downloaded from $UV_ADDRESS. Is there a connection to the internet?"
    # Into our folder only: no start-up file of a shell is changed.
    UV_UNMANAGED_INSTALL="$data/uv" sh "$script" || give_up "the installer of uv failed; see above."
    rm -f "$script"
}

make_environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    step "Making an environment for the engine"
    rm -rf "$environment"
    # --seed: with pip, which the hints of CellSeg name.
    "$uv" venv --seed --python "$PYTHONS" "$environment" ||
        give_up "no Python of version $PYTHONS could be found or downloaded; see above."
}

newest_wheel() { # beside this file, without "cellseg_engine-"; 0.10.0 is newer than 0.9.0
    find "$here" -maxdepth 1 -name 'cellseg_engine-*.whl' | sed 's/.*cellseg_engine-//' |
        sort -t . -k 1,1n -k 2,2n -k 3,3n | tail -n 1
}

install_engine() {
    step "Installing the engine (PyTorch is large: this may take some minutes)"
    say "from $wheel"
    # By its path: by its name an index would be asked, where anyone may have registered it.
    set -- --python "$python" --reinstall-package "$PACKAGE"
    # On Linux the ordinary PyTorch brings several GB for NVIDIA GPUs; "auto" looks for one first.
    backend=${UV_TORCH_BACKEND-auto}
    if [ "$(uname -s)" = Linux ] && [ -n "$backend" ]; then
        set -- "$@" --torch-backend "$backend"
    fi
    unset UV_TORCH_BACKEND
    end_engine # it would go on with the code that is replaced now
    "$uv" pip install "$@" "${wheel}[service]" || give_up "the packages could not be installed; see above."
    "$cellseg" --version || give_up "the engine was installed but does not run; see above."
}

give_up() { # what a first installation has made so far goes; an older one stays
    rm -f "$data/install-uv.sh"
    if [ ! -f "$hosts" ]; then
        rm -rf "$data"
        rmdir "$parent" 2>/dev/null
    fi
    fail "$*"
}

# --- the hosts -----------------------------------------------------------------------------------

install_hosts() {
    ready=
    step "CellProfiler"
    if [ -z "$plugins" ]; then
        plugins=$("$python" -c "$FIND_PLUGINS")
    fi
    [ -n "$plugins" ] || plugins=$(ask_folder "Which folder is CellProfiler's plugins directory?")
    install_host CellProfiler "$plugins" cellprofiler --plugins-directory "$plugins"
    step "Fiji"
    [ -n "$fiji" ] || fiji=$(find_fiji)
    [ -n "$fiji" ] || fiji=$(ask_folder "Which folder holds your Fiji?")
    install_host Fiji "$fiji" fiji "$fiji"
}

install_host() { # its name, its folder or nothing, and the words after `cellseg install`
    name=$1
    folder=$2
    shift 2
    if [ -z "$folder" ]; then
        say "No folder is known, so $name is left out."
        return
    fi
    "$cellseg" install "$@"
    result=$?
    if [ "$result" -ne 2 ]; then # 1: installed, though the check failed
        remember "$1" "$folder"
    fi
    if [ "$result" -eq 0 ]; then
        ready="${ready:+$ready and }$name"
    else
        failed="${failed:+$failed and }$name"
    fi
}

remember() {
    line="$1$TAB$2"
    grep -Fxq -- "$line" "$hosts" || printf '%s\n' "$line" >>"$hosts"
}

run_install() {
    failed=
    newest=$(newest_wheel)
    [ -n "$newest" ] || fail "there is no cellseg_engine-....whl in $here; put it beside this file."
    wheel=$here/cellseg_engine-$newest
    mkdir -p "$data" || fail "the folder $data cannot be made."
    # A folder with something in it that we did not make is not ours to fill, or to remove later.
    if [ ! -f "$marker" ]; then
        [ -z "$(ls -A "$data")" ] || fail "$data is there already and is not from this installer."
        : >"$marker" || fail "the folder $data cannot be written."
    fi
    own_cache=$data/cache
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$own_cache}"
    export UV_PYTHON_INSTALL_DIR="${UV_PYTHON_INSTALL_DIR:-$data/python}"
    find_uv
    make_environment
    install_engine
    rm -rf "$own_cache"
    [ -f "$hosts" ] || : >"$hosts"
    install_hosts
    if [ -n "$failed" ]; then
        finish 1 "The engine is installed in $data, but $failed could not be set up; see above."
    elif [ -z "$ready" ]; then
        finish 0 "The engine is installed in $data. Neither CellProfiler nor Fiji was found: start" \
            "this again with --plugins-directory DIR or --fiji DIR, or answer its questions."
    fi
    finish 0 "CellSeg is installed in $ready. Restart $ready to see it."
}

# --- removing ------------------------------------------------------------------------------------

run_uninstall() {
    [ -f "$marker" ] || fail "this installer has not installed it for you ($data is not from it)."
    if [ -f "$hosts" ]; then
        while IFS=$TAB read -r host folder <&3; do
            uninstall_host "$host" "$folder" || fail "$folder still has CellSeg in it; see above." \
                "The engine stays installed until that is mended."
        done 3<"$hosts"
    fi
    end_engine
    step "Removing $data"
    rm -rf "$data" || fail "$data could not be removed."
    rmdir "$parent" 2>/dev/null # only if it is empty
    finish 0 "CellSeg is removed. Your own models and results were left where they are."
}

uninstall_host() {
    case $1 in
    fiji)
        record=$2/cellseg-installed.json
        set -- fiji "$2"
        ;;
    *)
        record=$2/_cellseg/installed.json
        set -- cellprofiler --plugins-directory "$2"
        ;;
    esac
    [ -f "$record" ] || return 0 # removed by hand, or with the whole folder
    step "Removing CellSeg from $1"
    "$cellseg" uninstall "$@"
}

end_engine() { # one that runs in this environment; another one is none of our business
    [ -x "$cellseg" ] || return 0
    "$python" - "$environment" <<'PYTHON'
import sys

import psutil
from cellseg_client.start import find_engine

found = find_engine()
if found is not None:
    process = psutil.Process(found.connection.pid)
    if process.cmdline()[0].startswith(sys.argv[1]):
        process.terminate()
        process.wait(20)
PYTHON
}

# --- what to do ----------------------------------------------------------------------------------

while [ $# -gt 0 ]; do
    case $1 in
    --uninstall) task=uninstall ;;
    --no-wait) wait=no ;;
    --fiji | --plugins-directory)
        [ $# -gt 1 ] || fail "$1 needs a folder."
        case $2 in
        /*) folder=$2 ;;
        *) folder=$PWD/$2 ;;
        esac
        if [ "$1" = --fiji ]; then fiji=$folder; else plugins=$folder; fi
        shift
        ;;
    *) fail "$1 is not understood; allowed are --fiji DIR, --plugins-directory DIR, --uninstall" \
        "and --no-wait." ;;
    esac
    shift
done
# Another Python's settings would lead ours to the wrong packages.
unset PYTHONPATH PYTHONHOME
set_places
"run_$task"
