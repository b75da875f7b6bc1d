// SPDX-License-Identifier: GPL-2.0-or-later
/* What DPDK has as inline functions and macros, as functions and constants; a frame at a time, not a field at a time,
 * so that a call costs little and the layout of an mbuf stays on this side. */
#ifndef PTGT_SHIM_H
#define PTGT_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_ring.h>

/* Macros that bindgen cannot evaluate. */
static const uint64_t PTGT_TX_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t PTGT_TX_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t PTGT_TX_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t PTGT_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t PTGT_RX_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t PTGT_RX_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t PTGT_RX_TCP_LRO = RTE_ETH_RX_OFFLOAD_TCP_LRO;
static const uint64_t PTGT_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t PTGT_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t PTGT_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint32_t PTGT_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;

/* A received frame, with its VLAN tag in its place. One whose tag finds no room there has no bytes. */
struct ptgt_rx {
	struct rte_mbuf *mbuf;
	uint8_t *data;		/* first byte of the first piece */
	uint32_t len;		/* of all pieces */
	uint16_t pieces;
	uint16_t first;		/* bytes of the first piece */
	uint16_t good;		/* the device vouches for the transport checksum */
};

/* A piece of payload of a frame to be sent. */
struct ptgt_piece {
	const void *addr;
	rte_iova_t iova;
	uint32_t len;
};

/* A frame to be sent. */
struct ptgt_tx {
	const uint8_t *header;
	const struct ptgt_piece *pieces;
	uint16_t header_len;
	uint16_t count;		/* of pieces */
	uint16_t l2, l3, l4;	/* header lengths; l2 = 0: the frame is complete */
	uint16_t segment;	/* payload bytes per segment, 0 if it is not to be cut */
	bool ipv6;
	bool ip_sum;		/* the device computes the sum of the IPv4 header, too */
};

uint16_t ptgt_rx_burst(uint16_t port, uint16_t queue, struct ptgt_rx *out, uint16_t n);
void ptgt_describe(struct rte_mbuf *mbuf, struct ptgt_rx *out);
uint32_t ptgt_copy_out(const struct rte_mbuf *mbuf, uint8_t *to, uint32_t room);
void ptgt_free(struct rte_mbuf *mbuf);

/* A pool of `n` buffers with `room` bytes each. `packed`: they lie one after the other, across the ends of pages, for
 * devices that do not read memory by themselves. NULL if there is no memory: see ptgt_errno(). */
struct rte_mempool *ptgt_pool(const char *name, uint32_t n, uint32_t cache, uint16_t room, int node, bool packed);
/* In how many pieces of memory its buffers are. */
uint32_t ptgt_pool_pieces(const struct rte_mempool *pool);

/* For tests: takes the VLAN tag off, as a device does. 0, or -1 if there is none. */
int ptgt_untag(struct rte_mbuf *mbuf);

/* A header buffer, and external buffers that point at the pieces; `shared` gets a reference for each piece, and its
 * callback runs when the last one is released. NULL if a pool is empty: then nothing has been taken. */
struct rte_mbuf *ptgt_tx_chain(struct rte_mempool *headers, struct rte_mempool *externals, const struct ptgt_tx *tx,
			       struct rte_mbuf_ext_shared_info *shared, bool checksum);
/* A copy in buffers of `frames`, checksummed in software unless the device does it. NULL if the pool is empty. */
struct rte_mbuf *ptgt_tx_copy(struct rte_mempool *frames, const struct ptgt_tx *tx, bool checksum);
/* To be called once for each frame before it is sent. Less than `n`: the frame of that number can never be sent. */
uint16_t ptgt_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
/* Returns how many the device has taken. */
uint16_t ptgt_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);

uint32_t ptgt_ring_put(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n);
uint32_t ptgt_ring_take(struct rte_ring *ring, struct rte_mbuf **frames, uint32_t n);
uint32_t ptgt_ring_count(const struct rte_ring *ring);

/* For the far end of a device of two rings, which plays adapter and initiator. Takes `n` buffers, or none: not 0. */
int ptgt_alloc(struct rte_mempool *pool, struct rte_mbuf **out, uint16_t n);
/* Makes a TCP frame over IPv4 in an empty buffer. `good`: as if an adapter had looked at its checksum, which is not
 * computed; else it is. False if there is no room. */
bool ptgt_fill(struct rte_mbuf *mbuf, const uint8_t *header, uint16_t header_len, const uint8_t *payload, uint16_t len,
	       bool good);
/* Whether the TCP checksum of a frame over IPv4 in one buffer is right; of other frames nothing is said. */
bool ptgt_sum_is_right(const struct rte_mbuf *mbuf);
/* What a buffer of a chain holds; `external`: bytes that are not its own. Returns the next one. */
struct rte_mbuf *ptgt_look(const struct rte_mbuf *mbuf, struct ptgt_piece *piece, bool *external);

int ptgt_errno(void);
/* Sends what DPDK logs, from now on, to `write`, a message at a time; `level` as in rte_log.h, 1 (emergency) to 8. */
int ptgt_log_to(void (*write)(uint32_t level, const char *text, size_t len));
/* Name of the bus that a device is on: "pci", "vdev", ... */
const char *ptgt_bus(const struct rte_device *device);

#endif
