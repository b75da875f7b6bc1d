// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * load: keeps a number of SCSI reads or writes in flight on an iSCSI disk and measures them.
 *
 *   load URL read|write|check random|sequential BLOCK-BYTES DEPTH SECONDS
 *
 * Prints one line of JSON: operations, seconds, latencies in microseconds, own processor time. "check" reads what "write"
 * has written and compares it: each eight bytes hold their own address.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

enum { DEPTH_MAX = 256, LATENCIES_MAX = 1 << 24 };

struct slot {
	uint64_t begun, at;
	unsigned char *memory;
	struct scsi_iovec iov;
};

static struct iscsi_context *iscsi;
static struct iscsi_url *url;
static struct slot slots[DEPTH_MAX];
static enum { READ, WRITE, CHECK } kind;
static bool sequential;
static unsigned block, in_flight;
static uint64_t block_size, blocks, next, operations, measure_from, end, seed = 88172645463325252u;
static float *latencies;

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, iscsi ? iscsi_get_error(iscsi) : strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t pick(void)
{
	if (sequential)
		return next++ % blocks;
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % blocks;
}

static void stamp(struct slot *slot)
{
	for (uint64_t i = 0, address = slot->at * block; i < block; i += 8, address += 8)
		memcpy(slot->memory + i, &address, 8);
}

static void begin(struct slot *slot);

static void done(struct iscsi_context *context, int status, void *data, void *private)
{
	struct slot *slot = private;
	struct scsi_task *task = data;
	uint64_t t = now();

	(void)context;
	in_flight--;
	if (status != SCSI_STATUS_GOOD)
		die("command failed");
	for (uint64_t i = 0, address = slot->at * block; kind == CHECK && i < block; i += 8, address += 8)
		if (memcmp(slot->memory + i, &address, 8)) {
			fprintf(stderr, "load: wrong data at byte %llu\n", (unsigned long long)address);
			exit(2);
		}
	scsi_free_scsi_task(task);
	if (t >= measure_from && t < end) {
		if (operations < LATENCIES_MAX)
			latencies[operations] = (float)(t - slot->begun) / 1000;
		operations++;
	}
	if (t < end)
		begin(slot);
}

static void begin(struct slot *slot)
{
	struct scsi_task *task;
	uint64_t lba;

	slot->at = pick();
	slot->begun = now();
	lba = slot->at * (block / block_size);
	if (kind == WRITE) {
		stamp(slot);
		task = iscsi_write16_task(iscsi, url->lun, lba, slot->memory, block, (int)block_size, 0, 0, 0, 0, 0, done, slot);
	} else {
		task = iscsi_read16_task(iscsi, url->lun, lba, block, (int)block_size, 0, 0, 0, 0, 0, done, slot);
		slot->iov = (struct scsi_iovec){ .iov_base = slot->memory, .iov_len = block };
		if (task)
			scsi_task_set_iov_in(task, &slot->iov, 1);
	}
	if (!task)
		die("cannot send");
	in_flight++;
}

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void connect_to(const char *text)
{
	struct scsi_task *task;
	struct scsi_readcapacity16 *capacity;

	iscsi = iscsi_create_context("iqn.2026-11.com.example.ptgt:load");
	url = iscsi ? iscsi_parse_full_url(iscsi, text) : NULL;
	if (!url)
		die(text);
	iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
	if (iscsi_full_connect_sync(iscsi, url->portal, url->lun) && iscsi_full_connect_sync(iscsi, url->portal, url->lun))
		die("login");
	task = iscsi_readcapacity16_sync(iscsi, url->lun);
	capacity = task && task->status == SCSI_STATUS_GOOD ? scsi_datain_unmarshall(task) : NULL;
	if (!capacity)
		die("READ CAPACITY(16)");
	block_size = capacity->block_length;
	blocks = (capacity->returned_lba + 1) * block_size / block;
	scsi_free_scsi_task(task);
}

int main(int argc, char **argv)
{
	static const uint64_t warm_up = 300000000u;
	struct rusage before, after;
	unsigned depth;
	double cpu, seconds;
	uint64_t kept;

	if (argc != 7 || sscanf(argv[4], "%u", &block) != 1 || sscanf(argv[5], "%u", &depth) != 1 || depth > DEPTH_MAX) {
		fprintf(stderr, "usage: load URL read|write|check random|sequential BLOCK-BYTES DEPTH SECONDS\n");
		return 2;
	}
	kind = !strcmp(argv[2], "write") ? WRITE : !strcmp(argv[2], "check") ? CHECK : READ;
	sequential = !strcmp(argv[3], "sequential");
	latencies = malloc(sizeof(float) * LATENCIES_MAX);
	connect_to(argv[1]);
	for (unsigned i = 0; i < depth; i++)
		slots[i].memory = malloc(block);
	getrusage(RUSAGE_SELF, &before);
	measure_from = now() + warm_up;
	end = measure_from + (uint64_t)(atof(argv[6]) * 1e9);
	for (unsigned i = 0; i < depth; i++)
		begin(&slots[i]);
	while (in_flight) {
		struct pollfd p = { .fd = iscsi_get_fd(iscsi), .events = (short)iscsi_which_events(iscsi) };
		if (poll(&p, 1, 5000) <= 0)
			die("no answer for five seconds");
		if (iscsi_service(iscsi, p.revents))
			die("connection lost");
	}
	getrusage(RUSAGE_SELF, &after);
	iscsi_logout_sync(iscsi);
	kept = operations < LATENCIES_MAX ? operations : LATENCIES_MAX;
	if (!kept)
		die("nothing was done");
	qsort(latencies, kept, sizeof(float), ascending);
	seconds = atof(argv[6]);
	cpu = (double)(after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec)
	      + (double)(after.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec) / 1e6;
	printf("{\"operations\": %llu, \"per_second\": %.0f, \"mib_per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
	       "\"client_cpu_us\": %.2f}\n",
	       (unsigned long long)operations, (double)operations / seconds,
	       (double)operations * block / seconds / 1048576, latencies[kept / 2], latencies[kept * 99 / 100],
	       cpu * 1e6 / ((double)operations * (seconds + 0.3) / seconds));
	return 0;
}
