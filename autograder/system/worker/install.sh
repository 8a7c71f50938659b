#!/bin/sh
# Makes a Dask worker of a bare Debian, as root: bubblewrap, the course's locked packages, and a
# user without rights. The Dockerfile runs it; SOURCE holds what the Dockerfile copies.
#
#   install.sh SOURCE
set -eu
source=$1
export DEBIAN_FRONTEND=noninteractive

packages="bubblewrap ca-certificates tini"
command -v python3 >/dev/null || packages="$packages python3 python3-venv"
apt-get update -q
# shellcheck disable=SC2086 # one word a package
apt-get install -q -y --no-install-recommends $packages
apt-get clean
rm -rf /var/lib/apt/lists/*

useradd --uid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin worker

python3 -m venv /opt/worker
/opt/worker/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
    -r "$source/requirements.txt" -c "$source/constraints.txt" "$source" "$source/autograder"
/opt/worker/bin/python -m pip check
