// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_log.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_tcp.h>

#include "shim.h"

/* Lengths of an Ethernet header, and of all headers of a TCP frame over IPv4 without options. */
#define ETHERNET sizeof(struct rte_ether_hdr)
#define HEADERS (ETHERNET + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_tcp_hdr))

void ptgt_describe(struct rte_mbuf *mbuf, struct ptgt_rx *out)
{
	uint64_t sum = mbuf->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;

	/* Some devices take VLAN tags off although nobody asks them to. */
	if (unlikely(mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) && rte_vlan_insert(&mbuf)) {
		*out = (struct ptgt_rx){ .mbuf = mbuf };
		return;
	}
	out->mbuf = mbuf;
	out->data = rte_pktmbuf_mtod(mbuf, uint8_t *);
	out->len = mbuf->pkt_len;
	out->pieces = mbuf->nb_segs;
	out->first = mbuf->data_len;
	/* NONE: not computed, because the frame has never been on a wire. */
	out->good = sum == RTE_MBUF_F_RX_L4_CKSUM_GOOD || sum == RTE_MBUF_F_RX_L4_CKSUM_NONE;
}

uint16_t ptgt_rx_burst(uint16_t port, uint16_t queue, struct ptgt_rx *out, uint16_t n)
{
	struct rte_mbuf *mbufs[64];
	uint16_t i, got = rte_eth_rx_burst(port, queue, mbufs, n < 64 ? n : 64);

	for (i = 0; i < got; i++) {
		if (i + 1 < got)
			rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + 1], void *));
		ptgt_describe(mbufs[i], &out[i]);
	}
	return got;
}

uint32_t ptgt_copy_out(const struct rte_mbuf *mbuf, uint8_t *to, uint32_t room)
{
	uint32_t done = 0;

	for (; mbuf && done < room; mbuf = mbuf->next) {
		uint32_t n = RTE_MIN((uint32_t)mbuf->data_len, room - done);

		memcpy(to + done, rte_pktmbuf_mtod(mbuf, const void *), n);
		done += n;
	}
	return done;
}

int ptgt_untag(struct rte_mbuf *mbuf)
{
	return rte_vlan_strip(mbuf);
}

void ptgt_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

/* rte_pktmbuf_pool_create(), with flags. */
struct rte_mempool *ptgt_pool(const char *name, uint32_t n, uint32_t cache, uint16_t room, int node, bool packed)
{
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = room };
	struct rte_mempool *pool;
	int rc;

	pool = rte_mempool_create_empty(name, n, sizeof(struct rte_mbuf) + room, cache, sizeof(private), node,
					packed ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0);
	if (!pool)
		return NULL;
	rc = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (rc == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		rc = rte_mempool_populate_default(pool);
	}
	if (rc < 0) {
		rte_mempool_free(pool);
		rte_errno = -rc;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

uint32_t ptgt_pool_pieces(const struct rte_mempool *pool)
{
	return pool->nb_mem_chunks;
}

/* Tells the device what to do with the TCP header of a frame, whose first piece `m` holds all headers. DPDK wants the
 * sum of a pseudo header in the checksum field, without the length if the frame is to be cut. */
static void offload(struct rte_mbuf *m, const struct ptgt_tx *tx)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, tx->l2);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + tx->l3);

	m->l2_len = tx->l2;
	m->l3_len = tx->l3;
	m->l4_len = tx->l4;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM | (tx->ipv6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4);
	if (!tx->segment)
		return;
	m->tso_segsz = tx->segment;
	m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	if (tx->ipv6) {
		tcp->cksum = rte_ipv6_phdr_cksum((struct rte_ipv6_hdr *)ip, m->ol_flags);
	} else {
		/* Without it, what the header has stays, for a host that does not cut the frame. */
		if (tx->ip_sum) {
			m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
			((struct rte_ipv4_hdr *)ip)->hdr_checksum = 0;
		}
		tcp->cksum = rte_ipv4_phdr_cksum((struct rte_ipv4_hdr *)ip, m->ol_flags);
	}
}

struct rte_mbuf *ptgt_tx_chain(struct rte_mempool *headers, struct rte_mempool *externals, const struct ptgt_tx *tx,
			       struct rte_mbuf_ext_shared_info *shared, bool checksum)
{
	struct rte_mbuf *pieces[256], *head, *last;
	uint16_t i;

	if (tx->count > RTE_DIM(pieces))
		return NULL;
	head = rte_pktmbuf_alloc(headers);
	if (!head)
		return NULL;
	if (tx->header_len > rte_pktmbuf_tailroom(head) ||
	    (tx->count && rte_pktmbuf_alloc_bulk(externals, pieces, tx->count))) {
		rte_pktmbuf_free(head);
		return NULL;
	}
	memcpy(rte_pktmbuf_mtod(head, void *), tx->header, tx->header_len);
	head->data_len = tx->header_len;
	head->pkt_len = tx->header_len;
	head->nb_segs = tx->count + 1;
	if (tx->count)
		rte_mbuf_ext_refcnt_set(shared, tx->count);
	last = head;
	for (i = 0; i < tx->count; i++) {
		const struct ptgt_piece *piece = &tx->pieces[i];
		struct rte_mbuf *m = pieces[i];

		rte_pktmbuf_attach_extbuf(m, (void *)(uintptr_t)piece->addr, piece->iova, piece->len, shared);
		m->data_off = 0;
		m->data_len = piece->len;
		head->pkt_len += piece->len;
		last->next = m;
		last = m;
	}
	last->next = NULL;
	if (tx->l2 && checksum)
		offload(head, tx);
	return head;
}

struct rte_mbuf *ptgt_tx_copy(struct rte_mempool *frames, const struct ptgt_tx *tx, bool checksum)
{
	struct rte_mbuf *head = rte_pktmbuf_alloc(frames), *last = head;
	uint16_t i;

	if (!head)
		return NULL;
	if (tx->header_len > rte_pktmbuf_tailroom(head)) {
		rte_pktmbuf_free(head);
		return NULL;
	}
	memcpy(rte_pktmbuf_mtod(head, void *), tx->header, tx->header_len);
	head->data_len = tx->header_len;
	head->pkt_len = tx->header_len;
	for (i = 0; i < tx->count; i++) {
		const uint8_t *from = tx->pieces[i].addr;
		uint32_t left = tx->pieces[i].len;

		while (left) {
			uint32_t room = rte_pktmbuf_tailroom(last), n = RTE_MIN(left, room);

			if (!room) {
				struct rte_mbuf *m = rte_pktmbuf_alloc(frames);

				if (!m) {
					rte_pktmbuf_free(head);
					return NULL;
				}
				last->next = m;
				last = m;
				head->nb_segs++;
				continue;
			}
			memcpy(rte_pktmbuf_mtod_offset(last, uint8_t *, last->data_len), from, n);
			last->data_len += n;
			head->pkt_len += n;
			from += n;
			left -= n;
		}
	}
	if (!tx->l2)
		return head;
	if (checksum) {
		offload(head, tx);
	} else if (head->nb_segs == 1) {
		uint8_t *tcp = rte_pktmbuf_mtod_offset(head, uint8_t *, tx->l2 + tx->l3);
		uint16_t sum = ~rte_raw_cksum(tcp, head->data_len - tx->l2 - tx->l3);

		memcpy(tcp + offsetof(struct rte_tcp_hdr, cksum), &sum, sizeof(sum));
	} else {
		/* Such a frame would not fit the MTU. */
		rte_pktmbuf_free(head);
		return NULL;
	}
	return head;
}

uint16_t ptgt_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, frames, n);
}

uint16_t ptgt_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, frames, n);
}

uint32_t ptgt_ring_put(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n)
{
	return rte_ring_enqueue_burst(ring, (void **)frames, n, NULL);
}

uint32_t ptgt_ring_take(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n)
{
	return rte_ring_dequeue_burst(ring, (void **)frames, n, NULL);
}

uint32_t ptgt_ring_count(const struct rte_ring *ring)
{
	return rte_ring_count(ring);
}

int ptgt_alloc(struct rte_mempool *pool, struct rte_mbuf **out, uint16_t n)
{
	return rte_pktmbuf_alloc_bulk(pool, out, n);
}

bool ptgt_fill(struct rte_mbuf *m, const uint8_t *header, uint16_t header_len, const uint8_t *payload, uint16_t len,
	       bool good)
{
	uint8_t *data;

	if (header_len < HEADERS || (uint32_t)header_len + len > rte_pktmbuf_tailroom(m))
		return false;
	data = rte_pktmbuf_mtod(m, uint8_t *);
	memcpy(data, header, header_len);
	memcpy(data + header_len, payload, len);
	m->data_len = header_len + len;
	m->pkt_len = m->data_len;
	if (good) {
		m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	} else {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(data + ETHERNET);
		struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);

		tcp->cksum = 0;
		tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
	}
	return true;
}

bool ptgt_sum_is_right(const struct rte_mbuf *m)
{
	const struct rte_ether_hdr *ethernet = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(ethernet + 1);
	uint32_t sum;

	if (ethernet->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4))
		return true;
	if (m->nb_segs != 1 || m->data_len < HEADERS)
		return false;
	sum = rte_raw_cksum(ip + 1, m->data_len - ETHERNET - sizeof(*ip)) + rte_ipv4_phdr_cksum(ip, 0);
	return (sum & 0xffff) + (sum >> 16) == 0xffff;
}

struct rte_mbuf *ptgt_look(const struct rte_mbuf *mbuf, struct ptgt_piece *piece, bool *external)
{
	piece->addr = rte_pktmbuf_mtod(mbuf, const void *);
	piece->iova = 0;
	piece->len = mbuf->data_len;
	*external = RTE_MBUF_HAS_EXTBUF(mbuf);
	return mbuf->next;
}

int ptgt_errno(void)
{
	return rte_errno;
}

static void (*log_write)(uint32_t level, const char *text, size_t len);

static ssize_t log_cookie(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	log_write(rte_log_cur_msg_loglevel(), text, len);
	return len;
}

int ptgt_log_to(void (*write)(uint32_t level, const char *text, size_t len))
{
	static const cookie_io_functions_t functions = { .write = log_cookie };
	FILE *stream;

	log_write = write;
	stream = fopencookie(NULL, "w", functions);
	if (!stream)
		return -1;
	setvbuf(stream, NULL, _IOLBF, 1024);
	return rte_openlog_stream(stream);
}

const char *ptgt_bus(const struct rte_device *device)
{
	const struct rte_bus *bus = device ? rte_dev_bus(device) : NULL;

	return bus ? rte_bus_name(bus) : "";
}
