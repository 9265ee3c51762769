#!/bin/sh
# Installs Semel from the directory that this script lies in, or takes it away again.
#
#   ./install.sh [--prefix DIR] [--destdir DIR] [--dry-run]
#   ./install.sh --uninstall [--prefix DIR] [--destdir DIR] [--dry-run]
#
# --prefix DIR   where it goes (default /usr/local): bin/, share/man/, share/bash-completion/, lib/systemd/system/, lib/sysusers.d/
# --destdir DIR  is put before every path, for packages
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local destdir= dry= uninstall=
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=$2; shift ;;
    --destdir) destdir=$2; shift ;;
    --dry-run) dry=yes ;;
    --uninstall) uninstall=yes ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "install.sh: no such option: $1" >&2; exit 2 ;;
  esac
  shift
done

run() { if [ -n "$dry" ]; then echo "$*"; else "$@"; fi; }

# put MODE FILE TARGET: one file, or its removal.
put() {
  target=$destdir$prefix/$3
  if [ -n "$uninstall" ]; then
    if [ -e "$target" ] || [ -L "$target" ]; then run rm -f "$target"; fi
  else
    run install -D -m "$1" "$here/$2" "$target"
  fi
}

put 755 semel bin/semel
# What belongs to another tmkms or mithril-aggregator is not touched.
links=semel
for name in tmkms mithril-aggregator; do
  link=$destdir$prefix/bin/$name
  if [ -n "$uninstall" ]; then
    if [ "$(readlink "$link" 2>/dev/null)" = semel ]; then links="$links $name"; run rm -f "$link"; fi
  elif [ -e "$link" ] && [ ! -L "$link" ]; then
    echo "install.sh: $link is another program, and stays" >&2
  else
    links="$links $name"
    run ln -sf semel "$link"
  fi
done
for page in "$here"/man/*.1; do put 644 "man/${page##*/}" "share/man/man1/${page##*/}"; done
for link in $links; do
  put 644 "completions/$link.bash" "share/bash-completion/completions/$link"
  put 644 "completions/$link.zsh" "share/zsh/site-functions/_$link"
  put 644 "completions/$link.fish" "share/fish/vendor_completions.d/$link.fish"
done
put 644 systemd/semel-kms.service lib/systemd/system/semel-kms.service
put 644 systemd/semel-aggregator.service lib/systemd/system/semel-aggregator.service
if [ -z "$uninstall$dry" ] && [ "$prefix" != /usr ]; then
  sed -i "s|^ExecStart=/usr/bin/|ExecStart=$prefix/bin/|" "$destdir$prefix"/lib/systemd/system/semel-*.service
fi
put 644 systemd/sysusers.conf lib/sysusers.d/semel.conf
put 644 LICENSE share/doc/semel/LICENSE
put 644 docs/sign.md share/doc/semel/sign.md
put 644 docs/certify.md share/doc/semel/certify.md
put 644 prometheus/semel-kms.rules.yml share/doc/semel/semel-kms.rules.yml
put 644 prometheus/semel-aggregator.rules.yml share/doc/semel/semel-aggregator.rules.yml
put 644 grafana/semel-kms.json share/doc/semel/semel-kms.json
# Directories that only held ours.
if [ -n "$uninstall" ] && [ -z "$dry" ]; then rmdir "$destdir$prefix/share/doc/semel" 2>/dev/null || true; fi
