#!/usr/bin/env bash
# Fetches the public-domain texts of the demo model from Debian packages (bookworm) and unpacks them
# without installing anything.  usage: fetch_texts.sh WORKDIR      (needs apt-get, dpkg-deb)
set -eu
work=$(realpath -m "${1:?usage: fetch_texts.sh WORKDIR}")
mkdir -p "$work/deb" "$work/root"
cd "$work/deb"
apt-get download bible-kjv bible-kjv-text sword-text-web r-cran-janeaustenr dict-jargon dict-devil
for deb in *.deb; do dpkg-deb -x "$deb" "$work/root"; done
# The King James text is stored in the `bible` program's own compressed form; let the program print it.
"$work/root/usr/bin/bible" -p "$work/root/usr/lib" -f 'gen1:1-rev22:21' > "$work/kjv.txt"
wc "$work/kjv.txt"
