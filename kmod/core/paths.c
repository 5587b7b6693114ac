// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Which path can send. A path without a buffer is waited for 5 ms, then it is stalled:
 * passed by, and tried again every 20 ms.
 */
#include "kmod/core/sender_internal.h"

/* Mask of the paths that are live, or stalled and due for a try. Context: any; pure. */
unsigned int dcast_paths_usable(const struct dcast_sender *s, __u64 now_ns)
{
	unsigned int mask = 0, p;

	for (p = 0; p < s->config.paths; p++)
		if (!s->paths[p].stalled || now_ns >= s->paths[p].retry_ns)
			mask |= 1u << p;
	return mask;
}

/* Context: any, also panic with interrupts off; must not sleep. */
void *dcast_path_get(struct dcast_sender *s, unsigned int path, __u64 now_ns)
{
	struct dcast_path_state *state = &s->paths[path];
	void *buf = NULL;
	int up;

	if (state->stalled && now_ns < state->retry_ns)
		return NULL;
	up = s->rim.path_up(s->rim.ctx, path);
	if (up)
		buf = s->rim.tx_get(s->rim.ctx, path);
	if (buf) {
		state->blocked_ns = 0;
		state->stalled = 0;
		return buf;
	}
	if (!state->blocked_ns)
		state->blocked_ns = now_ns ? now_ns : 1;
	if (!up || state->stalled || now_ns >= state->blocked_ns + DCAST_STALL_NS) {
		state->stalled = 1;
		state->retry_ns = now_ns + DCAST_RETRY_NS;
	}
	return NULL;
}

/* Context: any; pure. */
__u64 dcast_paths_wake(const struct dcast_sender *s)
{
	__u64 wake = DCAST_NEVER;
	unsigned int p;

	for (p = 0; p < s->config.paths; p++) {
		const struct dcast_path_state *state = &s->paths[p];
		const __u64 at = state->stalled	   ? state->retry_ns :
				 state->blocked_ns ? state->blocked_ns + DCAST_STALL_NS :
						     DCAST_NEVER;

		if (at < wake)
			wake = at;
	}
	return wake;
}
