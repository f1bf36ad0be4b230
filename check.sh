#!/usr/bin/env bash
# Runs every check that a change has to pass. It takes Go 1.26, gcc, git, and Node 20 for the TypeScript client; Chromium for the tests in a browser, which are skipped without it.
#
#   ./check.sh             all of it
#   ./check.sh lint test   only these stages
#
# docs/developing.md says what the stages do; .ci/deep runs the long forms.
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
. .ci/stages.sh

if [ $# = 0 ]; then
  set -- format modules build lint test laws simulator race namespaces fuzz client browser vulnerabilities
fi
run_stages "$@"
