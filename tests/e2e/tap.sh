# SPDX-License-Identifier: MIT
# For the scripts of this folder, which source it: their tests are functions test_NAME.

# Nothing can be tested without the default guest.
need_guest() {
	[ -e "${XDG_CACHE_HOME:-$HOME/.cache}/userkvm/guest/current/VERSION" ] && return
	echo "1..0 # SKIP no default guest: run scripts/fetch-guest"
	exit 0
}

# run_tests NAME...: TAP of each; the exit status of the script.
run_tests() {
	n=0
	failed=0
	echo "1..$#"
	for name in "$@"; do
		n=$((n + 1))
		if "test_$name"; then
			echo "ok $n - $name"
		else
			echo "not ok $n - $name"
			failed=1
		fi
	done
	return $failed
}
