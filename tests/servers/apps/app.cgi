#!/bin/sh
# Tells what a server hands to CGI. The script's own name is the handler's.
cat >/dev/null
printf 'Content-Type: text/plain\r\n\r\nhandler=%s\n' "$(basename "$0" .cgi)"
env | LC_ALL=C sort
