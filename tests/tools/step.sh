#!/usr/bin/env bash
# step.sh NAME COMMAND... runs a command of the Makefile, saying what it is and how long it took.
source "$(dirname "$0")/env.sh"
step "$@"
