#!/bin/sh
# Double-click it in the Finder. Untried: no Mac was at hand.
exec sh "$(dirname "$0")/cellseg-installer.sh" "$@"
