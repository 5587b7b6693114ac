# SPDX-License-Identifier: Apache-2.0
"""VM test harness of dumpcast: boots Debian kernels in QEMU and crashes them.

Read in this order: kernels (what to boot), guest (what runs inside), net (what
it is plugged into), qemu (the machine), relays (who listens), oracle (who was
right). Nothing here knows how the sender, the relay or the store work inside;
it knows their command lines, the vmcore formats and QEMU.
"""
