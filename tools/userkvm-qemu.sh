#!/bin/sh
# SPDX-License-Identifier: MIT
#
# QEMU for tools that want the path of one program (kvm-unit-tests' QEMU=, vng --qemu,
# libvirt's <emulator>): all arguments are QEMU's.
#   USERKVM_QEMU   the real QEMU (qemu-system-x86_64)
#   USERKVM_ARGS   options of `userkvm run`, such as "--engine interp -v"
here=$(dirname -- "$(readlink -f -- "$0")")
# shellcheck disable=SC2086
exec "$here/userkvm" run ${USERKVM_ARGS:-} -- "${USERKVM_QEMU:-qemu-system-x86_64}" "$@"
