// SPDX-License-Identifier: GPL-2.0-only
/*
 * Class 1, continued: what runs on each processor, every task, what leads to it, and its stack.
 *
 * Tasks are found as debuggers find them: through the table of process ids (init_pid_ns's
 * radix tree, struct pid), so that a dump that was cut off has what they will follow. Every
 * link is read so that it cannot fault; the depth of the tree and the number of its nodes and
 * tasks are bounded.
 */
#include "dumpcast.h"
#include "hot.h"

#include <linux/cpumask.h>
#include <linux/mm_types.h>
#include <linux/pid_namespace.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/xarray.h>

#define DCAST_HOT_NODES	 (1u << 18) /* nodes of the tree looked at: PID_MAX_LIMIT needs 66,000 */
#define DCAST_HOT_LOOK	 64	    /* nodes between looks at the clock */
#define DCAST_HOT_NS	 (3 * NSEC_PER_SEC) /* for all tasks, then for all stacks: the log waits */
#define DCAST_TREE_DEPTH 5		    /* 64^5 is more than PID_MAX_LIMIT */

/* running: its stack pointer is not in the task; all of the stack is looked through. */
static void dcast_hot_stack(struct dcast_hot *hot, const struct task_struct *task, bool running)
{
	unsigned long stack, used = 0;

	if (get_kernel_nofault(stack, (unsigned long *)&task->stack))
		return;
	dcast_hot_range(hot, (void *)stack, THREAD_SIZE);
#ifdef CONFIG_X86_64
	if (!running && !get_kernel_nofault(used, (unsigned long *)&task->thread.sp))
		used = used - stack < THREAD_SIZE ? used - stack : 0;
#endif
	dcast_hot_words(hot, stack + used, THREAD_SIZE - used, running);
}

/* What a debugger's list of tasks reads of one. */
static void dcast_hot_task(struct dcast_hot *hot, const struct task_struct *task)
{
	struct signal_struct *signal;
	struct mm_struct *mm;

	dcast_hot_range(hot, task, sizeof(*task));
	if (!get_kernel_nofault(signal, (struct signal_struct **)&task->signal) && signal)
		dcast_hot_range(hot, signal, sizeof(*signal));
	if (get_kernel_nofault(mm, (struct mm_struct **)&task->mm) || !mm || mm == hot->mm)
		return;
	hot->mm = mm; /* of a thread and the next one, most often */
	dcast_hot_range(hot, mm, sizeof(*mm));
	/* f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter"), 6.2. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	{
		s32 *counters;
		unsigned int cpu;

		/* One allocation holds all of them. */
		if (get_kernel_nofault(counters, (s32 **)&mm->rss_stat[0].counters) || hot->full)
			return;
		for_each_online_cpu(cpu)
			dcast_hot_range(hot, (u8 *)counters + per_cpu_offset(cpu),
					NR_MM_COUNTERS * sizeof(*counters));
	}
#endif
}

/*
 * The idle task of a processor that runs something else: no list has it. Looked for in the
 * processor's own area, where its run queue is.
 */
static void dcast_hot_idle(struct dcast_hot *hot, unsigned int cpu)
{
	const u8 *area = (const u8 *)per_cpu_offset(cpu);
	char want[TASK_COMM_LEN], comm[TASK_COMM_LEN];
	size_t at;

	scnprintf(want, sizeof(want), "swapper/%u", cpu);
	for (at = 0; at < DCAST_PERCPU_STATIC; at += sizeof(long)) {
		const struct task_struct *task;
		pid_t pid;

		if (get_kernel_nofault(task, (const struct task_struct **)(area + at)))
			break;
		if ((unsigned long)task < PAGE_OFFSET || (void *)task >= high_memory ||
		    (unsigned long)task % __alignof__(*task) ||
		    get_kernel_nofault(pid, (pid_t *)&task->pid) || pid ||
		    copy_from_kernel_nofault(comm, task->comm, sizeof(comm)) ||
		    strncmp(comm, want, sizeof(comm)))
			continue;
		dcast_hot_range(hot, task, sizeof(*task));
		dcast_hot_stack(hot, task, false);
		break;
	}
}

/*
 * Adds what runs on each processor, and its idle task.
 * Context: panic.
 */
void dcast_hot_running(struct dcast_hot *hot)
{
	struct task_struct *task;
	unsigned int cpu, count;
	pid_t pid;

	for_each_present_cpu(cpu) {
		dcast_cpu_state(cpu, &task, &count);
		if (task) {
			dcast_hot_task(hot, task);
			dcast_hot_stack(hot, task, true);
		}
		if (!task || get_kernel_nofault(pid, (pid_t *)&task->pid) || pid)
			dcast_hot_idle(hot, cpu);
	}
}

/* The task of a struct pid, or NULL: then it names a group or session only. */
static const struct task_struct *dcast_pid_task(const struct pid *pid)
{
	struct hlist_node *first;

	if (get_kernel_nofault(first, (struct hlist_node **)&pid->tasks[PIDTYPE_PID].first) ||
	    !first)
		return NULL;
	return container_of(first, struct task_struct, pid_links[PIDTYPE_PID]);
}

/*
 * An entry of the tree of process ids: a node, or a struct pid. stacks: adds the stacks of the
 * tasks, else all but these.
 */
static void dcast_hot_entry(struct dcast_hot *hot, void *entry, unsigned int depth, bool stacks,
			    u32 *budget)
{
	const struct task_struct *task;
	unsigned int i;

	if (!*budget || !entry)
		return;
	if (!(--*budget % DCAST_HOT_LOOK) && dcast_now_ns() >= hot->until_ns)
		*budget = 0;
	if (xa_is_node(entry)) {
		struct xa_node *node = xa_to_node(entry);

		if (!depth)
			return;
		if (!stacks)
			dcast_hot_range(hot, node, sizeof(*node));
		for (i = 0; i < XA_CHUNK_SIZE; i++)
			if (!get_kernel_nofault(entry, (void **)&node->slots[i]))
				dcast_hot_entry(hot, entry, depth - 1, stacks, budget);
		return;
	}
	if (xa_is_internal(entry) || xa_is_value(entry))
		return;
	task = dcast_pid_task(entry);
	if (stacks) {
		if (task)
			dcast_hot_stack(hot, task, false);
		return;
	}
	dcast_hot_range(hot, entry, struct_size((struct pid *)entry, numbers, 1));
	if (task)
		dcast_hot_task(hot, task);
}

/*
 * Adds every task, then every stack.
 * Context: panic.
 */
void dcast_hot_tasks(struct dcast_hot *hot)
{
	void *root = rcu_dereference_raw(init_pid_ns.idr.idr_rt.xa_head);
	u32 budget = DCAST_HOT_NODES;

	hot->mm = NULL;
	hot->until_ns = dcast_now_ns() + DCAST_HOT_NS;
	dcast_hot_entry(hot, root, DCAST_TREE_DEPTH, false, &budget);
	budget = DCAST_HOT_NODES;
	hot->until_ns = dcast_now_ns() + DCAST_HOT_NS;
	dcast_hot_entry(hot, root, DCAST_TREE_DEPTH, true, &budget);
}
