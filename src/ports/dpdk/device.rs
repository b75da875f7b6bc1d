// SPDX-License-Identifier: GPL-2.0-or-later
//! An Ethernet device of DPDK: found, then running with its queues, then closed when the last queue is given up.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dpdk_sys as dpdk;
use log::{debug, info, warn};

use super::eal::{self, Eal};
use super::memory::{DeviceMemory, Reach};
use super::pool::{Mbuf, Pool, PoolConfig};
use super::rings::Rings;
use crate::counters::{Counted, CounterDefinition, CounterKind, CounterSet, CounterUnit};
use crate::memory::{Region, RegionTable};
use crate::ports::LinkCounters;

/// Descriptors of a queue, if the device has as many.
const DESCRIPTORS: u16 = 1024;

/// Buffers for received and copied frames, per queue.
pub(super) const FRAMES: u32 = 8191;

/// Buffers for the headers of frames whose payload stays where it is, per queue.
const HEADERS: u32 = 2047;

/// Buffers that point at payload, per queue.
const EXTERNALS: u32 = 8191;

/// Room for a header, headroom apart.
pub(super) const HEADER_MAX: usize = 256;

/// Before a frame in its buffer (RTE_PKTMBUF_HEADROOM).
const HEADROOM: u16 = 128;

/// What comes on top of the MTU: Ethernet header, two VLAN tags, check sequence; and what the kernel keeps free for XDP
/// programs in the buffers of AF_XDP devices (XDP_PACKET_HEADROOM).
const OVERHEAD: u16 = 14 + 8 + 4 + 256;

/// Largest MTU of AF_XDP devices. Their buffers are no larger than a page, of which pool and mbuf take 192 bytes, and
/// DPDK one line in 64, so that buffers begin in different channels of the memory.
const XDP_MTU_MAX: u16 = 4096 - 64 - 192 - HEADROOM - OVERHEAD;

/// Frames that wait between two cores where one device queue serves several.
const RING: u32 = 1024;

/// How long the last of the cores may take to give its queue up.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Largest frame with segmentation offload. IPv4 has 65535 bytes; room is left as with other ports.
const SEGMENT_MAX: u32 = 64_254;

/// How a device is set up.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// A PCI address, or a virtual device with its arguments (`net_af_packet0,iface=eth1`).
    pub device: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// MAC address; `None`: the device's own.
    pub mac: Option<[u8; 6]>,
    /// Queues wanted, one per core.
    pub queues: usize,
    /// Use the offloads that the device has.
    pub offload: bool,
    /// Receive everything.
    pub promiscuous: bool,
}

/// Bytes of buffers that a device needs.
pub(super) fn memory(mtu: u16, queues: usize) -> usize {
    // An mbuf has 128 bytes and its pool a header of 64; pools and rings have some of their own.
    let frames = FRAMES as usize * (usize::from(room(mtu)) + 192);
    let rest = HEADERS as usize * (HEADER_MAX + usize::from(HEADROOM) + 192) + EXTERNALS as usize * 192;
    // What DPDK itself takes, and what the ends of its areas leave empty.
    (frames + rest + (3 << 20)) * queues + (8 << 20)
}

/// Bytes of a frame's buffer.
fn room(mtu: u16) -> u16 {
    (HEADROOM + (mtu.saturating_add(OVERHEAD)).max(2048)).next_multiple_of(64)
}

/// What a running device can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    /// It computes TCP checksums.
    pub(super) checksum: bool,
    /// It computes checksums of IPv4 headers.
    pub(super) ip_checksum: bool,
    /// Largest frame that it cuts; 0: none.
    pub(super) segment_max: u32,
    /// Most buffers of a frame; 1: it takes whole frames only.
    pub(super) buffers_max: usize,
    /// It computes wrong checksums of frames with an odd number of bytes in a buffer that is not the last.
    pub(super) even: bool,
    /// Its hardware reads memory by itself.
    pub(super) dma: bool,
    pub(super) mtu: u16,
    pub(super) mac: [u8; 6],
}

/// A device that was found and is not set up.
pub struct Found {
    eal: Arc<Eal>,
    port: u16,
    name: String,
    info: dpdk::rte_eth_dev_info,
    driver: String,
    /// What it is made of, if its far end is in this process.
    rings: Option<Arc<Rings>>,
}

/// A device that runs; its queues share it.
pub(super) struct Running {
    pub(super) port: u16,
    pub(super) name: String,
    pub(super) abilities: Abilities,
    /// Frames for each core, and from all cores to the first one, if one queue serves them all.
    pub(super) spread: Option<Spread>,
    /// It hears everything, because the operator wants it, or it has no filter for our address.
    promiscuous: bool,
    state: Mutex<State>,
    closed: Condvar,
    _rings: Option<Arc<Rings>>,
    /// Of all queues: the device receives into them until it is closed, and there may be buffers in the rings.
    _pools: Vec<Pools>,
    // After all that is DPDK's.
    pub(super) eal: Arc<Eal>,
}

// SAFETY: the functions of an Ethernet device may be called on any thread, if not on several at once: queues are used
// by one core each, and what concerns the whole device is called under `state` or before the cores start.
unsafe impl Send for Running {}
// SAFETY: as above.
unsafe impl Sync for Running {}

struct State {
    queues: usize,
    closed: bool,
    /// The memory that it reads by itself.
    memory: RegionTable<DeviceMemory>,
    accepted: Vec<[u8; 6]>,
    /// Those of them that the device has no filter for, so that it hears everything.
    unfiltered: Vec<[u8; 6]>,
    /// It hears all groups, for want of filters.
    all_groups: bool,
    names: HashMap<u64, &'static CounterDefinition>,
}

/// A ring of frames between cores.
pub(super) struct Ring(NonNull<dpdk::rte_ring>);

impl Ring {
    pub(super) fn new(name: &str, node: i32, one_producer: bool) -> io::Result<Self> {
        const SINGLE_PRODUCER: u32 = 1;
        const SINGLE_CONSUMER: u32 = 2;
        let c_name = CString::new(name).map_err(io::Error::other)?;
        let flags = SINGLE_CONSUMER | if one_producer { SINGLE_PRODUCER } else { 0 };
        // SAFETY: the environment runs; the name is copied.
        let raw = unsafe { dpdk::rte_ring_create(c_name.as_ptr(), RING, node, flags) };
        NonNull::new(raw).map(Self).ok_or_else(|| eal::last("no memory for a ring"))
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk::rte_ring {
        self.0.as_ptr()
    }

    /// Frames in it.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the ring is there.
        unsafe { dpdk::ptgt_ring_count(self.0.as_ptr()) as usize }
    }

    /// Puts frames in from the front; what finds no room stays.
    pub(super) fn put(&self, frames: &mut Vec<Mbuf>) -> usize {
        let count = u32::try_from(frames.len()).unwrap_or(RING);
        // SAFETY: as many frames, which are the ring's afterwards.
        let taken = unsafe { dpdk::ptgt_ring_put(self.0.as_ptr(), super::pool::as_raw(frames), count) };
        super::pool::consumed(frames, taken as usize);
        taken as usize
    }

    /// Takes up to `max` frames out. For one thread at a time.
    pub(super) fn take(&self, max: usize, mut each: impl FnMut(Mbuf)) -> usize {
        let mut raw = [std::ptr::null_mut(); 64];
        let count = u32::try_from(max.min(raw.len())).unwrap_or(0);
        // SAFETY: room for as many pointers.
        let taken = unsafe { dpdk::ptgt_ring_take(self.0.as_ptr(), raw.as_mut_ptr(), count) };
        for &raw in &raw[..taken as usize] {
            // SAFETY: the ring has given the frame up.
            if let Some(frame) = unsafe { Mbuf::own(raw) } {
                each(frame);
            }
        }
        taken as usize
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.take(64, drop) > 0 {}
        // SAFETY: nobody uses it any more.
        unsafe { dpdk::rte_ring_free(self.0.as_ptr()) };
    }
}

/// One device queue for several cores: the first has it, and spreads.
pub(super) struct Spread {
    pub(super) received: Vec<Ring>,
    pub(super) sent: Ring,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Found {
    /// Finds a device, and makes it if it is a virtual one.
    pub fn probe(eal: &Arc<Eal>, device: &str) -> io::Result<Self> {
        let name = device.split(',').next().unwrap_or(device);
        let (c_device, c_name) = (CString::new(device)?, CString::new(name)?);
        let mut port = 0;
        // SAFETY: the environment runs, the names are strings; here and below.
        let known = || unsafe { dpdk::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut port) == 0 };
        let mut known = known;
        if !known() {
            // SAFETY: as above.
            let rc = eal::logged(|| unsafe { dpdk::rte_dev_probe(c_device.as_ptr()) })?;
            if rc != 0 || !known() {
                let hint = if name.contains(':') {
                    "is it bound to vfio-pci? ptgt doctor shows it"
                } else {
                    "a PCI address, or a virtual device of DPDK with its arguments"
                };
                return Err(eal::error(&format!("device {device:?} cannot be used: {hint}"), rc));
            }
        }
        let mut info = dpdk::rte_eth_dev_info::default();
        // SAFETY: info is writable.
        let rc = unsafe { dpdk::rte_eth_dev_info_get(port, &raw mut info) };
        if rc != 0 {
            return Err(eal::error(&format!("device {device:?}"), rc));
        }
        let driver = match info.driver_name.is_null() {
            true => String::new(),
            // SAFETY: the name of a driver is a string that stays.
            false => unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned(),
        };
        Ok(Self { eal: eal.clone(), port, name: name.to_owned(), info, driver, rings: None })
    }

    /// Makes a device of two rings.
    pub(super) fn rings(eal: &Arc<Eal>, rings: Arc<Rings>) -> io::Result<Self> {
        // The driver names its devices so.
        rings.device("ptgt")?;
        Ok(Self { rings: Some(rings), ..Self::probe(eal, "net_ring_ptgt")? })
    }

    /// Sets the device up and starts it. Returns a queue for each core.
    pub fn start(self, config: &DeviceConfig) -> io::Result<Vec<Queue>> {
        eal::forget_complaints();
        let pairs = self.pairs(config)?;
        let (mut tx, rx) = self.offloads(config);
        let rx = self.configure(config, pairs, tx, rx)?;
        let pools = self.pools(config, pairs)?;
        self.set_up_queues(pairs, tx, rx, &pools)?;
        let mut address = dpdk::rte_ether_addr::default();
        // SAFETY: address is writable.
        unsafe { dpdk::rte_eth_macaddr_get(self.port, &raw mut address) };
        // SAFETY: the device and its queues are set up.
        let rc = unsafe { dpdk::rte_eth_dev_start(self.port) };
        if rc != 0 {
            return Err(self.fail("does not start", rc));
        }
        if self.rings.is_some() && config.offload {
            // The ring's driver does not offer it, but its far end is an adapter that does all this for nothing.
            tx |= dpdk::PTGT_TX_TCP_CKSUM | dpdk::PTGT_TX_IPV4_CKSUM | dpdk::PTGT_TX_TCP_TSO;
        }
        let mac = config.mac.unwrap_or(address.addr_bytes);
        let abilities = self.abilities(config, tx, mac);
        let spread = (usize::from(pairs) < config.queues).then(|| self.spread(config.queues)).transpose()?;
        let yes = |on, word| if on { word } else { "" };
        info!(
            "device {} ({}): MTU {}, {pairs} queue{}{}{}{}{}{}",
            self.name,
            self.driver,
            config.mtu,
            yes(pairs > 1, "s"),
            yes(spread.is_some(), " spread over the reactors in software"),
            yes(abilities.checksum, ", checksums"),
            yes(abilities.segment_max > 0, ", segmentation"),
            yes(rx & dpdk::PTGT_RX_TCP_LRO != 0, ", large receive"),
            yes(abilities.buffers_max > 1, ", payload sent from where it lies"),
        );
        let device = NonNull::new(self.info.device).ok_or_else(|| self.fail("is not a device", 0))?;
        let mut running = Running {
            eal: self.eal.clone(),
            port: self.port,
            name: self.name.clone(),
            abilities,
            spread,
            promiscuous: config.promiscuous,
            state: Mutex::new(State {
                queues: config.queues,
                closed: false,
                memory: RegionTable::new(DeviceMemory::new(device, self.eal.virtual_addresses())),
                accepted: Vec::new(),
                unfiltered: Vec::new(),
                all_groups: false,
                names: HashMap::new(),
            }),
            closed: Condvar::new(),
            _rings: self.rings,
            _pools: pools.clone(),
        };
        running.promiscuous |= mac != address.addr_bytes && !running.add_address(mac);
        if running.promiscuous {
            running.hear_everything()?;
        }
        let running = Arc::new(running);
        let queues = pools.into_iter().enumerate();
        Ok(queues
            .map(|(core, pools)| Queue { core, pools, opened: false, device: running.clone() })
            .collect())
    }

    fn fail(&self, what: &str, rc: i32) -> io::Error {
        eal::error(&format!("device {:?}: {what}", self.name), rc)
    }

    /// The NUMA node of the device.
    fn node(&self) -> i32 {
        // SAFETY: a plain question.
        unsafe { dpdk::rte_eth_dev_socket_id(self.port) }
    }

    /// Whether it is an adapter that reads and writes memory by itself.
    fn reads_memory(&self) -> bool {
        // SAFETY: the device is there.
        unsafe { CStr::from_ptr(dpdk::ptgt_bus(self.info.device)) == c"pci" }
    }

    fn is_xdp(&self) -> bool {
        self.driver == "net_af_xdp"
    }

    /// DPDK 22.11's TAP driver sums up each buffer by itself, which is wrong after an odd one; and it cuts frames in
    /// software, into buffers of any length.
    fn needs_even_buffers(&self) -> bool {
        self.driver == "net_tap"
    }

    /// By what the device's hash may spread flows over queues.
    fn hash(&self) -> u64 {
        self.info.flow_type_rss_offloads & (dpdk::PTGT_RSS_IP | dpdk::PTGT_RSS_TCP)
    }

    /// How many pairs of queues it gets: one for each core, or one alone whose flows are spread in software.
    fn pairs(&self, config: &DeviceConfig) -> io::Result<u16> {
        // Virtual devices on kernel interfaces spread flows by themselves: tun's flow table, PACKET_FANOUT, the
        // adapter's own queues.
        let itself = ["net_tap", "net_af_packet", "net_af_xdp"].contains(&self.driver.as_str());
        let possible = usize::from(self.info.max_rx_queues.min(self.info.max_tx_queues));
        let own = (self.hash() != 0 || itself) && possible >= config.queues;
        let pairs = if own { config.queues } else { 1 };
        let refuse = |what: String| Err(io::Error::other(format!("device {:?}: {what}", self.name)));
        if self.is_xdp() && config.mtu > XDP_MTU_MAX {
            return refuse(format!("cannot have an MTU of {}: AF_XDP has {XDP_MTU_MAX} at most", config.mtu));
        }
        if self.is_xdp() && possible > pairs {
            return refuse(format!("it has {possible} queues: use as many reactors, or queue_count=1"));
        }
        u16::try_from(pairs).map_err(io::Error::other)
    }

    /// What is left to the device when it sends, and when it receives.
    fn offloads(&self, config: &DeviceConfig) -> (u64, u64) {
        let info = &self.info;
        let mut tx = info.tx_offload_capa & dpdk::PTGT_TX_MULTI_SEGS;
        if !config.offload {
            return (tx, 0);
        }
        tx |= info.tx_offload_capa & (dpdk::PTGT_TX_TCP_CKSUM | dpdk::PTGT_TX_IPV4_CKSUM);
        let needed = dpdk::PTGT_TX_TCP_CKSUM | dpdk::PTGT_TX_MULTI_SEGS;
        if !self.needs_even_buffers() && tx & needed == needed {
            tx |= info.tx_offload_capa & dpdk::PTGT_TX_TCP_TSO;
        }
        let wanted = dpdk::PTGT_RX_TCP_CKSUM | dpdk::PTGT_RX_IPV4_CKSUM | dpdk::PTGT_RX_TCP_LRO;
        let mut rx = info.rx_offload_capa & wanted;
        if rx & dpdk::PTGT_RX_TCP_LRO != 0 {
            rx |= info.rx_offload_capa & dpdk::PTGT_RX_SCATTER;
        }
        (tx, rx)
    }

    /// Configures the stopped device. Returns the offloads for receiving that it has taken.
    fn configure(&self, config: &DeviceConfig, pairs: u16, tx: u64, rx: u64) -> io::Result<u64> {
        let mut setup = dpdk::rte_eth_conf::default();
        setup.rxmode.mtu = config.mtu.into();
        setup.rxmode.offloads = rx;
        setup.rxmode.max_lro_pkt_size = self.info.max_lro_pkt_size;
        setup.txmode.offloads = tx;
        if pairs > 1 && self.hash() != 0 {
            setup.rxmode.mq_mode = dpdk::rte_eth_rx_mq_mode(dpdk::PTGT_MQ_RX_RSS);
            setup.rx_adv_conf.rss_conf.rss_hf = self.hash();
        }
        // SAFETY: the device is stopped; the setup is read during the call.
        let configure = |setup: &dpdk::rte_eth_conf| unsafe {
            dpdk::rte_eth_dev_configure(self.port, pairs, pairs, setup)
        };
        let mut rc = configure(&setup);
        if rc != 0 && setup.rxmode.offloads & dpdk::PTGT_RX_TCP_LRO != 0 {
            // Not every device that offers to put segments together does it in every setup.
            setup.rxmode.offloads &= !(dpdk::PTGT_RX_TCP_LRO | dpdk::PTGT_RX_SCATTER);
            rc = configure(&setup);
        }
        if rc != 0 {
            return Err(self.fail("cannot be set up", rc));
        }
        let mut now = 0;
        // SAFETY: the device is set up and stopped.
        let rc = unsafe { dpdk::rte_eth_dev_set_mtu(self.port, config.mtu) };
        // SAFETY: as above, and now is writable.
        unsafe { dpdk::rte_eth_dev_get_mtu(self.port, &raw mut now) };
        if rc != 0 && now != config.mtu {
            return Err(self.fail(&format!("cannot have an MTU of {}; it has {now}", config.mtu), rc));
        }
        Ok(setup.rxmode.offloads)
    }

    /// The pools of each core.
    fn pools(&self, config: &DeviceConfig, pairs: u16) -> io::Result<Vec<Pools>> {
        let dma = self.reads_memory();
        let of_core = |core| {
            let pool = |kind: &str, count, room| {
                let umem = self.is_xdp() && kind == "frames" && core < usize::from(pairs);
                let name = format!("ptgt{}.{core}.{kind}", self.port);
                Pool::new(&self.eal, PoolConfig { name, count, room, node: self.node(), dma, umem })
            };
            Ok(Pools {
                frames: pool("frames", FRAMES, room(config.mtu))?,
                headers: pool("headers", HEADERS, HEADROOM + HEADER_MAX as u16)?,
                externals: pool("externals", EXTERNALS, 0)?,
            })
        };
        (0..config.queues).map(of_core).collect()
    }

    fn set_up_queues(&self, pairs: u16, tx: u64, rx: u64, pools: &[Pools]) -> io::Result<()> {
        let (port, node) = (self.port, self.node().cast_unsigned());
        let (mut rx_count, mut tx_count) = (DESCRIPTORS, DESCRIPTORS);
        // SAFETY: both are writable.
        let rc =
            unsafe { dpdk::rte_eth_dev_adjust_nb_rx_tx_desc(port, &raw mut rx_count, &raw mut tx_count) };
        if rc != 0 {
            return Err(self.fail("has no ring sizes", rc));
        }
        let (mut tx_conf, mut rx_conf) = (self.info.default_txconf, self.info.default_rxconf);
        tx_conf.offloads = tx;
        rx_conf.offloads = rx;
        for queue in 0..pairs {
            let frames = pools[usize::from(queue)].frames.as_ptr();
            // SAFETY: the device is set up for so many queues; the configurations are read during the calls, and the
            // pool lives as long as the device (Queue).
            let rc = eal::logged(|| unsafe {
                match dpdk::rte_eth_tx_queue_setup(port, queue, tx_count, node, &raw const tx_conf) {
                    0 => {
                        dpdk::rte_eth_rx_queue_setup(port, queue, rx_count, node, &raw const rx_conf, frames)
                    }
                    rc => rc,
                }
            })?;
            if rc != 0 {
                return Err(self.fail(&format!("queue {queue} cannot be set up"), rc));
            }
        }
        Ok(())
    }

    fn abilities(&self, config: &DeviceConfig, tx: u64, mac: [u8; 6]) -> Abilities {
        let several = tx & dpdk::PTGT_TX_MULTI_SEGS != 0;
        let most = match self.info.tx_desc_lim.nb_seg_max {
            0 => 32,
            most => usize::from(most).min(64),
        };
        let checksum = tx & dpdk::PTGT_TX_TCP_CKSUM != 0;
        Abilities {
            checksum,
            ip_checksum: tx & dpdk::PTGT_TX_IPV4_CKSUM != 0,
            segment_max: if tx & dpdk::PTGT_TX_TCP_TSO != 0 { SEGMENT_MAX } else { 0 },
            buffers_max: if several && checksum { most } else { 1 },
            even: self.needs_even_buffers(),
            dma: self.reads_memory(),
            mtu: config.mtu,
            mac,
        }
    }

    /// The rings over which one queue serves all cores.
    fn spread(&self, cores: usize) -> io::Result<Spread> {
        let (port, node) = (self.port, self.node());
        let received = (0..cores).map(|core| Ring::new(&format!("ptgt{port}.rx{core}"), node, true));
        Ok(Spread {
            received: received.collect::<Result<_, _>>()?,
            sent: Ring::new(&format!("ptgt{port}.tx"), node, false)?,
        })
    }
}

/// The pools of one queue.
#[derive(Clone)]
pub(super) struct Pools {
    pub(super) frames: Arc<Pool>,
    pub(super) headers: Arc<Pool>,
    pub(super) externals: Arc<Pool>,
}

/// One core's share of a running device. The device is closed when all cores have given theirs up.
pub struct Queue {
    pub(super) core: usize,
    pub(super) pools: Pools,
    /// It has a core, whose payload the device may hold.
    pub(super) opened: bool,
    pub(super) device: Arc<Running>,
}

impl Queue {
    /// The device's queue that this core looks after.
    pub(super) fn own(&self) -> Option<u16> {
        match &self.device.spread {
            Some(_) if self.core > 0 => None,
            Some(_) => Some(0),
            None => u16::try_from(self.core).ok(),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.device.give_up(self.opened);
    }
}

impl Running {
    fn fail(&self, what: &str, rc: i32) -> io::Error {
        eal::error(&format!("device {:?}: {what}", self.name), rc)
    }

    fn hear_everything(&self) -> io::Result<()> {
        // SAFETY: the device runs, here and below.
        match unsafe { dpdk::rte_eth_promiscuous_enable(self.port) } {
            0 => Ok(()),
            rc => Err(self.fail("cannot receive everything", rc)),
        }
    }

    /// One more unicast address. Returns whether the device has a filter for it; without one it has to hear everything.
    fn add_address(&self, mac: [u8; 6]) -> bool {
        let mut address = dpdk::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the address is readable.
        let filtered = unsafe { dpdk::rte_eth_dev_mac_addr_add(self.port, &raw mut address, 0) } == 0;
        if !filtered {
            debug!(target: "dpdk", "{}: no filter for another address: everything is received", self.name);
        }
        filtered
    }

    /// Receives what is sent to these addresses, too, and no longer to those given before.
    pub(super) fn accept(&self, addresses: &[[u8; 6]]) -> io::Result<()> {
        let mut state = lock(&self.state);
        // All cores ask for the same.
        if state.accepted == addresses {
            return Ok(());
        }
        let State { accepted, unfiltered, all_groups, .. } = &mut *state;
        let unicast = |mac: &&[u8; 6]| mac[0] & 1 == 0;
        for &mac in accepted.iter().filter(unicast).filter(|mac| !addresses.contains(mac)) {
            let mut address = dpdk::rte_ether_addr { addr_bytes: mac };
            // SAFETY: the address is readable. One that has no filter is nothing to it.
            _ = unsafe { dpdk::rte_eth_dev_mac_addr_remove(self.port, &raw mut address) };
        }
        let before = !unfiltered.is_empty();
        unfiltered.retain(|mac| addresses.contains(mac));
        for &mac in addresses.iter().filter(unicast).filter(|mac| !accepted.contains(mac)) {
            if !self.add_address(mac) {
                unfiltered.push(mac);
            }
        }
        *accepted = addresses.to_vec();
        match (before, !unfiltered.is_empty()) {
            (false, true) => self.hear_everything()?,
            // SAFETY: see above.
            (true, false) if !self.promiscuous => _ = unsafe { dpdk::rte_eth_promiscuous_disable(self.port) },
            _ => {}
        }
        let groups = addresses.iter().filter(|mac| mac[0] & 1 != 0);
        let mut groups: Vec<_> = groups.map(|&mac| dpdk::rte_ether_addr { addr_bytes: mac }).collect();
        let count = u32::try_from(groups.len()).map_err(io::Error::other)?;
        // SAFETY: as many addresses.
        let listed = unsafe { dpdk::rte_eth_dev_set_mc_addr_list(self.port, groups.as_mut_ptr(), count) };
        let wanted = count > 0 && listed != 0;
        // A device without either hears them all (virtual devices), or is told to.
        let told = match (*all_groups, wanted) {
            // SAFETY: see above.
            (false, true) => unsafe { dpdk::rte_eth_allmulticast_enable(self.port) },
            // SAFETY: see above.
            (true, false) => unsafe { dpdk::rte_eth_allmulticast_disable(self.port) },
            _ => 0,
        };
        if told != 0 {
            debug!(target: "dpdk", "{}: no multicast filters, and none to be switched off", self.name);
        }
        *all_groups = wanted;
        Ok(())
    }

    /// Makes memory known to the device, so that it can read payload there. What cannot be is copied when it is sent.
    pub(super) fn register(&self, regions: &[Region]) -> Reach {
        if !self.abilities.dma {
            return Reach::everything();
        }
        let mut state = lock(&self.state);
        for region in regions {
            if let Err(e) = state.memory.add(region) {
                warn!("device {}: payload will be copied when it is sent: {e}", self.name);
            }
        }
        Reach::of(&state.memory)
    }

    /// How many other cores have not given their queues up.
    pub(super) fn others(&self) -> usize {
        lock(&self.state).queues - 1
    }

    /// Link state and what the device has counted.
    pub(super) fn counters(&self) -> Vec<Counted> {
        let mut link = dpdk::rte_eth_link::default();
        // SAFETY: the device runs and the link is writable.
        unsafe { dpdk::rte_eth_link_get_nowait(self.port, &raw mut link) };
        let speed = if link.link_speed == u32::MAX { 0 } else { link.link_speed };
        let counters = LinkCounters { link_up: link.link_status().into(), link_mbps: speed.into() };
        let mut list: Vec<Counted> = counters.counted().collect();
        let mut values = [dpdk::rte_eth_xstat::default(); 512];
        // SAFETY: room for as many; a device with more says so, and is left alone.
        let count = unsafe { dpdk::rte_eth_xstats_get(self.port, values.as_mut_ptr(), 512) };
        let count = usize::try_from(count).unwrap_or(0).min(512);
        let mut state = lock(&self.state);
        if count > 0 && state.names.is_empty() {
            let mut names = vec![dpdk::rte_eth_xstat_name::default(); 512];
            // SAFETY: room for as many.
            let named = unsafe { dpdk::rte_eth_xstats_get_names(self.port, names.as_mut_ptr(), 512) };
            for (id, name) in (0..).zip(&names[..usize::try_from(named).unwrap_or(0).min(512)]) {
                // SAFETY: DPDK has ended the name with a zero.
                let name = unsafe { CStr::from_ptr(name.name.as_ptr()) }.to_string_lossy();
                // As long as the device: it is opened once in the life of the process.
                let definition = CounterDefinition {
                    name: Box::leak(format!("device_{name}").into_boxed_str()),
                    help: "As the device's driver counts it.",
                    kind: CounterKind::Counter,
                    unit: CounterUnit::Unknown,
                    heading: "",
                };
                state.names.insert(id, Box::leak(Box::new(definition)));
            }
        }
        let values = values[..count].iter().filter(|each| each.value > 0);
        list.extend(values.filter_map(|each| Some((*state.names.get(&each.id)?, each.value))));
        list
    }

    /// A queue is needed no longer. The last one closes the device; cores `wait` for that, since the device may hold
    /// their payload until then.
    fn give_up(&self, wait: bool) {
        let mut state = lock(&self.state);
        state.queues -= 1;
        if state.queues > 0 {
            if !wait {
                return;
            }
            let (state, late) = self
                .closed
                .wait_timeout_while(state, CLOSE_TIME, |state| !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            if late.timed_out() && !state.closed {
                warn!("device {}: another reactor still uses it", self.name);
            }
            return;
        }
        // SAFETY: no core uses a queue any more.
        unsafe { dpdk::rte_eth_dev_stop(self.port) };
        state.memory.give_up();
        // SAFETY: as above.
        unsafe { dpdk::rte_eth_dev_close(self.port) };
        info!("device {}: closed", self.name);
        state.closed = true;
        self.closed.notify_all();
    }
}
