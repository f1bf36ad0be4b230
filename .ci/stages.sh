# The stages of check.sh and .ci/deep: one function each, called stage_NAME. To be sourced.
#
# A stage prints what it finds wrong and fails; it is skipped if it says why and exits with $SKIP.

# Each version is fixed, so that the same commit is judged alike tomorrow.
GOLANGCI_LINT=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK=golang.org/x/vuln/cmd/govulncheck@v1.9.0

# What a run may set. .ci/deep has larger defaults.
FUZZ_TIME=${FUZZ_TIME:-5s}           # for each fuzz target
LAW_CASES=${LAW_CASES:-20000}        # for each property of the lattice
LAW_SEED=${LAW_SEED:-1}              # what the cases are drawn from: the same ones at each run; 0 draws new ones
SIM_SEEDS=${SIM_SEEDS:-3000}         # simulator runs
RACE_SIM_SEEDS=${RACE_SIM_SEEDS:-100} # simulator runs under the race detector
POWER_CUTS=${POWER_CUTS:-3}
NETNS_MINUTES=${NETNS_MINUTES:-1}    # nodes in network namespaces
SLOW_SECONDS=${SLOW_SECONDS:-60}
MESH_NODES=${MESH_NODES:-1000}
MESH_WRITES=${MESH_WRITES:-10000}
FORGET_DOCUMENTS=${FORGET_DOCUMENTS:-50000}
SOAK_MINUTES=${SOAK_MINUTES:-2}
SOAK_REPORT=${SOAK_REPORT:-}         # file for a summary
KILL_ROUNDS=${KILL_ROUNDS:-50}        # kill -9 rounds, of .ci/deep only: the gate leaves the number to the test
CLIENT_SEEDS=${CLIENT_SEEDS:-30}     # random histories of TypeScript clients and two nodes
TEST_TIMEOUT=${TEST_TIMEOUT:-15m}    # for the tests of one package

SKIP=77
# A checkout may belong to another user than the one who builds; then git, which go build asks for the revision, refuses.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

stage_format() { # gofmt has nothing to change
  local bad
  bad=$(go_files | xargs -0 gofmt -l)
  if [ -n "$bad" ]; then
    echo "not formatted; run: gofmt -w" $bad
    return 1
  fi
}

stage_modules() { # go.mod and go.sum are tidy, and the modules are what go.sum says
  local diff
  if ! diff=$(go mod tidy -diff 2>&1); then
    echo "not tidy; run: go mod tidy"
    head -n 40 <<<"$diff"
    return 1
  fi
  go mod verify
}

stage_build() { # everything builds
  go build ./...
}

stage_lint() { # golangci-lint with .golangci.yml, go vet among its checks
  go run "$GOLANGCI_LINT" run ./...
}

stage_test() { # all tests: unit, property, golden, fuzz corpora, conformance, command sessions, kill -9
  need_tools iproute2:ip nftables:nft
  go test -count=1 -timeout "$TEST_TIMEOUT" ./...
}

stage_laws() { # the laws of the lattice, $LAW_CASES cases for each
  local packages
  packages=$(linking pgregory.net/rapid ./crdt/...)
  if [ -z "$packages" ]; then
    echo "no package in crdt tests with rapid"
    return $SKIP
  fi
  go test -count=1 -timeout "$TEST_TIMEOUT" $packages -args -rapid.checks="$LAW_CASES" -rapid.seed="$LAW_SEED"
}

stage_simulator() { # whole replicas on a simulated network against the oracle, $SIM_SEEDS seeds
  need_package ./replica/replicatest
  ANABRANCH_SIM_SEEDS=$SIM_SEEDS go test -count=1 -timeout "$TEST_TIMEOUT" -run '^TestSimulation$' ./replica/replicatest
}

stage_race() { # replica and net under the race detector, in short, without the packages that start no goroutine (crdt/layout_test.go)
  local packages
  packages=$(go list ./replica/... ./net/... | grep -v -E '/replica/(docstore|protocol|grant|mesh)$')
  CGO_ENABLED=1 ANABRANCH_SIM_SEEDS=$RACE_SIM_SEEDS go test -race -short -count=1 -timeout "$TEST_TIMEOUT" $packages
}

stage_fuzz() { # each fuzz target for $FUZZ_TIME
  local list package name targets=0 failed=0
  list=$(fuzz_targets)
  if [ -z "$list" ]; then
    echo "there is no fuzz target"
    return $SKIP
  fi
  while read -r package name; do
    targets=$((targets + 1))
    fuzz_one "$package" "$name" || failed=$((failed + 1))
  done <<<"$list"
  echo "$targets targets, $failed failed"
  [ "$failed" = 0 ]
}

stage_kill() { # kill -9 of a node while it acknowledges writes, $KILL_ROUNDS rounds
  need_package ./cmd/anabranch
  go test -count=1 -timeout "$TEST_TIMEOUT" -run KilledNode ./cmd/anabranch -args -kills="$KILL_ROUNDS"
}

stage_faults() { # an I/O error at each system call that a node makes on its files
  ANABRANCH_IO_FAULTS=all go test -v -count=1 -timeout "$TEST_TIMEOUT" -run '^TestIOErrorAtAnyCall' ./cmd/anabranch
}

stage_soak() { # steady writes and deletes for $SOAK_MINUTES; writes docs/soak.md if it goes well
  ANABRANCH_SOAK_MINUTES=$SOAK_MINUTES ANABRANCH_SOAK_REPORT=$SOAK_REPORT \
    go test -v -count=1 -timeout "$TEST_TIMEOUT" -run '^TestSoak$' ./cmd/anabranch
}

stage_slow() { # peers that read a kilobyte a second, for $SLOW_SECONDS
  ANABRANCH_SLOW_SECONDS=$SLOW_SECONDS go test -v -count=1 -timeout "$TEST_TIMEOUT" -run '^TestSlowPeers' ./net/quicnet
}

stage_forget() { # $FORGET_DOCUMENTS documents come and go at two nodes: nothing is left of them, on the disk neither
  ANABRANCH_FORGET_DOCUMENTS=$FORGET_DOCUMENTS go test -v -count=1 -timeout "$TEST_TIMEOUT" -run '^TestDeletedDocumentsLeaveNoTrace$' ./net/quicnet
}

stage_mesh() { # what a write costs in a mesh of $MESH_NODES nodes with few peers each, and $MESH_WRITES of them, in simulated time
  ANABRANCH_MESH_NODES=$MESH_NODES ANABRANCH_MESH_WRITES=$MESH_WRITES go test -v -count=1 -timeout "$TEST_TIMEOUT" -run '^TestLargeMesh$' ./replica
}

stage_namespaces() { # nodes in network namespaces, cut off, killed and put back for $NETNS_MINUTES minutes; as root
  need_package ./cmd/anabranch
  need_tools iproute2:ip nftables:nft
  local log
  log=$(mktemp)
  if ! ANABRANCH_NETNS_SECONDS=$(awk "BEGIN { print $NETNS_MINUTES * 60 }") \
    go test -v -count=1 -timeout "$TEST_TIMEOUT" -run '^TestNodesInNamespaces$' ./cmd/anabranch | tee "$log"; then
    return 1
  fi
  ! grep -q '^--- SKIP' "$log" || return $SKIP
}

stage_power() { # power cuts of a node that writes, $POWER_CUTS of them; as root
  ANABRANCH_POWER_CUTS=$POWER_CUTS go test -count=1 -timeout "$TEST_TIMEOUT" -run TestPowerCut ./cmd/anabranch
}

stage_replay() { # the whole real histories, on every store and transport
  ANABRANCH_REPLAY=all go test -count=1 -timeout "$TEST_TIMEOUT" -run TestRealHistories ./cmd/anabranch/internal/replay
}

stage_client() { # the TypeScript client: types, tests, bundle, $CLIENT_SEEDS random histories with real nodes
  local dir=net/gateway/js
  if [ ! -f $dir/package.json ]; then
    echo "there is no $dir/package.json"
    return $SKIP
  fi
  need_tools nodejs:node npm:npm
  (cd $dir && npm ci --no-audit --no-fund --loglevel=error && ANABRANCH_FUZZ_SEEDS=$CLIENT_SEEDS npm test)
}

stage_browser() { # the page, the example and the client in a real Chromium
  local dir=net/gateway/js/browser log
  need_tools chromium:chromium nodejs:node npm:npm
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "there is no node here, so nothing was tried in a browser"
    return $SKIP
  fi
  log=$(mktemp)
  (cd $dir && npm ci --no-audit --no-fund --loglevel=error && npm test) | tee "$log" || return 1
  ! grep -q 'SKIPPED: no Chromium' "$log" || return $SKIP
}

stage_vulnerabilities() { # govulncheck, if its database can be reached
  if ! timeout 10 bash -c '</dev/tcp/vuln.go.dev/443' 2>/dev/null; then
    echo "vuln.go.dev cannot be reached from here, so known vulnerabilities were NOT looked for"
    return $SKIP
  fi
  go run "$GOVULNCHECK" ./...
}

# need_package ends the stage if a package does not exist.
need_package() {
  if [ -z "$(go list "$1" 2>/dev/null)" ]; then
    echo "there is no package $1"
    exit $SKIP
  fi
}

# need_tools installs the Debian packages whose commands are missing, in CI only: what is tested there must not be skipped.
need_tools() {
  local pair missing=""
  for pair in "$@"; do
    command -v "${pair#*:}" >/dev/null || missing+=" ${pair%:*}"
  done
  [ -n "$missing" ] && [ -n "${ANABRANCH_CI:-}" ] || return 0
  apt-get update -qq && apt-get install -y -qq $missing
}

# go_files prints the Go files of the repository, each followed by NUL.
go_files() {
  find . \( -name '.?*' -o -name node_modules -o -name testdata \) -prune -o -name '*.go' -type f -print0
}

# linking prints those of the packages $2... whose test binary links module $1.
linking() {
  local module=$1 package
  shift
  for package in $(go list "$@" 2>/dev/null); do
    if go list -test -deps "$package" | grep -x "$module" >/dev/null; then # not -q: it would break the pipe
      echo "$package"
    fi
  done
}

# fuzz_targets prints "package target" for each fuzz target.
fuzz_targets() {
  local list
  if ! list=$(go test -list '^Fuzz' ./...); then
    grep -v -e '^ok' -e '^?' -e '^Fuzz' <<<"$list" >&2
    return 1
  fi
  awk '
    /^Fuzz/ { names[n++] = $1 }
    /^ok/   { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }' <<<"$list"
}

# fuzz_one runs one target, prints a line about it, and all of its output if it fails.
#
# Go 1.26 now and then ends a clean run with a bare "context deadline exceeded" (https://go.dev/issue/75804, mended in 1.27).
# A run that says this and has no failing input is repeated once.
fuzz_one() {
  local package=$1 name=$2 log try status=1
  log=$(mktemp)
  for try in 1 2; do
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZ_TIME" -fuzzminimizetime 5s -parallel 2 -timeout "$TEST_TIMEOUT" "$package" >"$log" 2>&1 </dev/null
    status=$?
    [ $status = 0 ] && break
    grep -q 'context deadline exceeded' "$log" && ! grep -q -e 'Failing input' -e panic "$log" || break
  done
  if [ $status = 0 ]; then
    echo "ok    $name $(grep -o 'execs: [0-9]*' "$log" | tail -n 1) (${package#*/*/*/})"
  else
    echo "FAIL  $name ($package)"
    sed 's/^/      /' "$log"
    # The input that failed, so that it can be taken from a log.
    local input
    input=$(sed -n 's/.*Failing input written to //p' "$log" | tail -n 1)
    [ -n "$input" ] && sed 's/^/      | /' "$(go list -f '{{.Dir}}' "$package")/$input"
  fi
  rm -f "$log"
  return $status
}

# run_stages runs the stages named, prints the time that each took, and returns 1 if one failed. After a failure it goes
# on with the others, except that nothing can follow a failed build.
run_stages() {
  local stage status start begin=$SECONDS failed=0 summary=""
  for stage in "$@"; do
    if ! declare -F "stage_$stage" >/dev/null; then
      echo "there is no stage $stage; there are: $(declare -F | sed -n 's/^declare -f stage_//p' | xargs)" >&2
      return 2
    fi
  done
  for stage in "$@"; do
    start=$SECONDS
    echo "=== $stage"
    { (set -eo pipefail; "stage_$stage") 2>&1 >&3 | grep --line-buffered -v '^go: downloading ' >&2; } 3>&1
    status=${PIPESTATUS[0]}
    case $status in
    0) status=ok ;;
    "$SKIP") status=skipped ;;
    *) status=FAILED failed=1 ;;
    esac
    echo "--- $stage: $status, $((SECONDS - start)) s"
    summary+=$(printf '%-16s %-8s %5d s' "$stage" $status $((SECONDS - start)))$'\n'
    [ "$stage $status" = "build FAILED" ] && break
  done
  echo "=== summary"
  printf '%s' "$summary"
  printf '%-16s %-8s %5d s\n' total "$([ $failed = 0 ] && echo ok || echo FAILED)" $((SECONDS - begin))
  return $failed
}
