#!/bin/sh
# SPDX-License-Identifier: MIT
# Apply known defects to the MMU one by one and see that a test catches each:
#
#	tests/stress/mutate.sh [name...]
#
# Works on a copy of the sources, in a build folder of its own. A row is
#	name @ file @ sed expression @ test that must fail
# and a row whose expression changes nothing is an error, so that rows do not
# outlive the code they are about.
set -u
cd "$(dirname "$0")/../.." || exit 1
src=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
git ls-files -z | xargs -0 cp --parents -t "$work/src" || exit 1
meson setup "$work/build" "$work/src" -Db_sanitize=thread -Db_lundef=false >/dev/null || exit 1
export TSAN_OPTIONS=halt_on_error=1

rows() {
	cat <<'ROWS'
no-flush-before-yield @ kvm/x86/mmu/iter.c @ s/^\tif (flush)$/\tif (flush \&\& !it)/ @ kvm/kvm_tdp_iter_test
no-grace-period @ kvm/x86/mmu/table.c @ s/^\tepoch_defer(&t->node, grace_over);/\tgrace_over(\&t->node);/ @ tests/stress/mmu_stress 6
plain-store @ kvm/x86/mmu/spte.c @ s/^\tif (!__atomic_compare_exchange_n(r->ptr, &r->old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))$/\t__atomic_store_n(r->ptr, new, __ATOMIC_SEQ_CST);\n\tif (0)/ @ tests/stress/mmu_stress 6
no-restart-after-yield @ kvm/x86/mmu/iter.c @ s/^\tit->yielded = true;// @ kvm/kvm_tdp_iter_test
put-root-before-zap @ kvm/x86/mmu/mmu.c @ s/^\t\ttdp_zap_root(dead\[as\]);/\t\ttdp_put_root(dead[as]); tdp_put_root(dead[as]); tdp_put_root(dead[as]);/ @ kvm/kvm_mem_test
signed-sequence @ kvm/x86/mmu/fault.c @ s/return atomic_load(&mmu->inval_seq) != f->seq;/return atomic_load(\&mmu->inval_seq) != (u64)(s32)f->seq;/ @ kvm/kvm_mem_test
no-reread @ kvm/x86/mmu/spte.c @ s/^\t} while (!tdp_change(r, 0));/\t} while (!tdp_change(r, 0) \&\& 0);/ @ kvm/kvm_tdp_iter_test
space-ignored @ kvm/x86/mmu/mmu.c @ s/r->as_id == as_id && get_root(r)/get_root(r)/ @ kvm/kvm_mem_test
no-flush-after-zap @ kvm/x86/mmu/zap.c @ s/^\tif (flush)$/\tif (flush \&\& !root)/ @ tests/stress/mmu_stress 6
no-flush-after-protect @ kvm/dirty.c @ s/^\tif (flush)$/\tif (flush \&\& !vm)/ @ kvm/kvm_mem_test
stale-fault-mapped @ kvm/x86/mmu/fault.c @ s/^\t\tif (!stale(f))$/\t\tif (1 || !stale(f))/ @ kvm/kvm_mem_test
no-flush-on-root-change @ kvm/x86/mmu/mmu.c @ s/^\t\thv_set_request(v, HV_REQ_TLB_FLUSH);// @ kvm/kvm_mem_test
ept-dirty-by-store @ silicon/x86/mmu/ept.c @ s/^\t\tif (pml && !tested/\t\tif (0 \&\& !tested/ @ silicon/mmu_ept_test
ROWS
}

bad=0
rows | while IFS='@' read -r name file expr test; do
	name=$(echo $name)
	file=$(echo $file)
	test=$(echo $test)
	expr=$(printf %s "$expr" | sed 's/^ //;s/ $//')
	if [ $# -gt 0 ]; then
		case " $* " in *" $name "*) ;; *) continue ;; esac
	fi
	sed "$expr" "$src/$file" >"$work/src/$file"
	if cmp -s "$src/$file" "$work/src/$file"; then
		echo "not ok $name: changes nothing"
		bad=1
	elif ! ninja -C "$work/build" "${test%% *}" >"$work/log" 2>&1; then
		echo "not ok $name: does not build"
		grep error "$work/log"
		bad=1
	elif timeout 120 "$work/build/"$test >"$work/log" 2>&1; then
		echo "not ok $name: survived $test"
		bad=1
	else
		echo "ok $name: $(grep -m1 -o 'WARNING: ThreadSanitizer: [a-z ]*\|mmu_stress: [a-z ]*:\|userkvm: BUG.*\|LINE.*\|ERROR: row.*' "$work/log")"
	fi
	cp "$src/$file" "$work/src/$file"
	[ $bad = 0 ]
done
