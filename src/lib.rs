// SPDX-License-Identifier: GPL-2.0-or-later
//! ptgt, the polled target: a SCSI target framework. This page is the architecture.
//!
//! # Rooms
//!
//! Each module at the top is a room with one concern; imports go one way, from the lower part of this table to the
//! upper, and `ci/tidy/tidy.rs` holds the exact list and enforces it.
//!
//! | Room | What is in it |
//! |---|---|
//! | [`sys`] | every libc call, wrapped safely |
//! | [`wire`] | byte formats of SCSI and of the fabrics, nothing else |
//! | [`options`] | keys of the configuration: how they are described and read; each kind of part has its own table |
//! | [`time`] | an instant, as an argument; a timer wheel |
//! | [`counters`] | the lists that say what is counted, and what comes from them |
//! | [`activity`] | what a thread is about, for the last words of one that panics |
//! | [`machine`] | what the kernel tells of the machine, and how what is looked at is judged |
//! | [`memory`] | the arena of huge pages of each core, regions that devices may touch, and who owns a run of bytes |
//! | [`reactor`] | the loop of a core, mailboxes between cores, and what the parts of a core share |
//! | [`io`] | the lower waist: block operations and their completions |
//! | [`formats`] | images that are more than plain blocks, without I/O: tape cartridges |
//! | [`scsi`] | SAM without I/O: commands, sense, unit attentions; the upper waist |
//! | [`devices`] | what a command means to a disk, a tape drive, or a media changer: one table per command set |
//! | [`stores`] | where blocks lie: files, memory, nowhere |
//! | [`fabrics`] | protocol machines that get bytes and time as arguments: iSCSI, FCoE |
//! | [`net`] | from Ethernet frames to byte streams; the interfaces of a port |
//! | [`ports`] | where frames and streams come from: TAP devices, interfaces, DPDK, kernel sockets, memory (for tests) |
//! | [`engine`] | joins devices, stores and fabrics: task manager, one core's share of it all; what a fabric is to a core |
//! | [`adapters`] | one for each fabric: it joins the protocol machine to the engine; sessions, what is exported to whom |
//! | [`control`] | configuration, log, status, the socket of the command line |
//! | [`mod@bench`] | the load generator, over a wire and over layers of ptgt alone |
//! | [`image`] | `ptgt image`: images of tapes that no daemon has open |
//! | [`runtime`] | threads, signals, order of start and stop |
//! | `sim` | the test world (feature `sim`, and unit tests): whole targets with faults around them, by seed |
//!
//! `devices`, `stores` and `fabrics` never see each other, and of `engine`, `control` and `runtime` none names
//! a fabric. `wire`,
//! `io`, `formats`, `scsi`, `devices`, `fabrics`, `net`, `engine` and `adapters` have no `unsafe`, no socket, no thread
//! and no clock: whatever they do can be repeated by a test with the same bytes and times.
//!
//! # Two narrow waists
//!
//! * **Fabric and device** meet in [`scsi`]. A fabric implements [`scsi::Transport`], the transport protocol services
//!   of SAM; a device implements [`scsi::DeviceServer`], which answers a command with [`scsi::Step`]s: fetch so many
//!   bytes from the initiator, do this store operation, send this data, finish. Steps come one at a time and as many as
//!   the device wants, so that a transfer of any length runs in bounded memory. Between them stands [`engine::tasks`],
//!   which carries steps out, keeps the order of tasks, aborts them, and makes residuals. How bytes move is the
//!   fabric's affair: as a stream, in frames, by memory region, by ring slot; tests drive the waist with each of these,
//!   and with a serial device that ends short.
//! * **Device and store** meet in [`io`]. An [`io::Op`] owns its buffers until its completion gives them back; a store
//!   never waits, never sees SCSI, and completes each operation exactly once.
//!
//! A protocol error ends a connection; a SCSI error is status and sense, never an `Err`. Bad input never panics.
//!
//! # Who owns a buffer
//!
//! * A [`memory::SegMut`] is the right to write a block of the arena, or a buffer, and there is one; frozen, it is a
//!   [`memory::Seg`], shared and read-only. Segments belong to the core that made them: reference counts are plain
//!   integers, and the compiler keeps segments from crossing.
//! * Stores lend memory that other cores may be writing (a RAM disk). It is reached by raw copies and by the kernel
//!   only, so a READ that overlaps a WRITE sees either content of a block; what is digested or checksummed in software
//!   is copied first.
//! * Memory that a device, the kernel or a peer may touch is a [`memory::Region`]: a core's arena, what stores lend,
//!   buffers of a fabric's own ([`memory::BufferSlots`]), which make segments like any other. A segment knows its
//!   region by number and its place there. Whoever has to be told of memory first is a [`memory::Registrar`], and keeps
//!   what it calls each region in a [`memory::RegionTable`] by that number; nobody looks for an address. What a
//!   registrar refuses is copied. `memory/region.rs` tells the order of start and stop.
//! * What is sent is held until the peer has acknowledged it and the port has released it, also beyond the end or the
//!   abort of its command: a PDU once begun is sent whole.
//! * Received frames are lent upwards as they are, until half of the arena is out; then they are copied, so that a slow
//!   store does not starve the receive ring.
//!
//! # Ports and flows
//!
//! A core sees byte streams through [`net::StreamHost`]. The kernel port implements it on sockets; [`net::TcpHost`] on
//! any [`net::FramePort`], which is one queue of an Ethernet device: bursts of frames of up to 64 KiB in and out,
//! checksums and segmentation left to the device where it can.
//!
//! The queue belongs to a link, of which TCP/IP is one client. Protocols beside it are others ([`net::LinkClient`]):
//! they claim frames by ethertype, VLAN and address ([`net::FrameClaim`]), and those are taken out of each burst before
//! TCP/IP sees it, to wait for their client within bounds of number and memory. A port without IP addresses has them
//! alone. A device brings frames in at any core, so a fabric on frames has [`adapters::ethernet`], which gives each to
//! its home core, or to the one that its key decides.
//!
//! Each connection is a smoltcp interface with one socket of its own, because smoltcp looks at all sockets of an
//! interface on each poll. smoltcp never sees the payload: it is told lengths, and the flow puts slices of the segments
//! it was given in the place of what smoltcp emits, by sequence number, whether it goes out for the first time or
//! again. Payload that arrives in order is handed on where it lies in its frame. Which bytes are sent again, and how
//! many may be under way, is decided by the flow, too: it knows what the peer has told (selective acknowledgments),
//! which smoltcp does not.
//!
//! # A turn
//!
//! A [`reactor`] runs [`engine::shard::Shard`] turn by turn to completion, without locks, waiting or allocation in the
//! steady state: its fabrics take a burst and feed their connections, the task manager polls the stores, the fabrics
//! run the tasks of whoever has something to do, and answer in one burst. The shard calls a fabric
//! ([`engine::fabric::Fabric`]) once for each of these; beside that only a transport is called by way of a table of
//! functions. With nothing to do the core polls for a while, then sleeps on descriptors and the nearest deadline.
//!
//! Sessions of one logical unit live on any core; what they share is the store's bytes, an immutable snapshot of what
//! is exported ([`adapters::iscsi::topology::Topology`]), and the state of a disk (mode parameters, reservations,
//! access states), of which the path of a READ or WRITE reads a snapshot: a change is agreed on by all cores before it
//! is in force. Everything else goes through mailboxes: the shards have one each, and so has each fabric of each core,
//! for what is its own.
//!
//! # The way of one READ and one WRITE
//!
//! 1. A port takes frames of its device, or bytes of a socket, in segments of the core's arena; TCP brings them into
//!    order where they lie. In [`engine::fabric::Fabric::poll`] the stream host says which streams have something,
//!    the iSCSI of the core gives the segments to the connection, and the session makes commands of them, in the
//!    order of CmdSN.
//! 2. In [`engine::fabric::Fabric::serve`] the task manager takes the command from the transport of its nexus, finds
//!    the logical unit, lets it pass or queues it (order, reservations, unit attentions), and asks the device server
//!    for the first step.
//! 3. A READ is a [`scsi::Step::Store`] with [`io::Op::Read`]. Memory answers at once, by lending its pages; a file
//!    answers from the page cache, or later: then the task is carried on when the stores are polled, in a turn of its
//!    own, and its nexus is woken. A WRITE is a [`scsi::Step::Fetch`] first: what has come with the command is there;
//!    for the rest the session sends R2Ts, and hands over the segments of all its Data-Out PDUs as one list
//!    ([`memory::Sg`]), which goes to the store as it is, with [`io::Op::Write`].
//! 4. The status, with the data of the READ, goes to the transport ([`scsi::Transport::send_command_complete`]). The
//!    session puts headers before slices of the segments, as many PDUs as the stream host has room for; nothing is
//!    copied, but by the socket or the device, and memory that is lent where something is computed over it.
//! 5. In [`engine::fabric::Fabric::commit`] the port sends all of the turn in one burst. The segments are held until
//!    the peer has acknowledged them.
//!
//! Where a fabric moves data by memory region (RDMA, a ring shared with the kernel), 3 and 4 have no bytes in PDUs: a
//! READ is sent from the region of the store or of the arena by its key, after which the status goes; of a WRITE the
//! fabric has the adapter fetch the bytes into a segment of a region of its own, which goes to the store as it is. Such
//! a fabric may also say where a READ is to land ([`scsi::Transport::landing`]). `adapters/toy_regions` does all of
//! that.
//!
//! # Changes while it runs
//!
//! Logical units, targets, portals, ports, accounts and access rules come and go. The control plane opens what is new,
//! each core makes its share of it ready on its own thread and votes ([`engine::agreement`]), and if all agree each
//! puts its share in force; else all of it is given up. Then nexuses see other logical units, of which unit attentions
//! tell them, and sessions that may not stay are asked to leave. A logical unit that goes ends what is under way, is
//! flushed by every core, and is closed by the control plane when no core has anything to do with it any more. One of
//! which something else is said is replaced: another unit, with its state and often with its store, has its LUN from
//! one moment to the next, and a nexus's tasks at the old one go first. What a core is made with, its memory, its
//! processor and DPDK's environment, stays until a restart. Operators have no command for this yet: the method `apply`
//! of the control socket is there in test builds only.
//!
//! # Units that one core owns
//!
//! A logical unit that runs one command at a time (a tape drive, a changer; [`engine::units::UnitKind`] says so) has
//! one owner core, which has its device server, its store and its task sets; other cores have nothing of it. The
//! commands of all nexuses stand in one line there, but for those whose [`scsi::primary::Definition`] passes it.
//!
//! A nexus of another core that sees such a unit is mirrored at the owner: a nexus like any other, whose
//! [`scsi::Transport`] is a link to the core of its session ([`engine::links`]). So what the task manager does for
//! nexuses (unit attentions, reservations, aborts, resets) it does in one place, and a fabric knows nothing of it.
//! Links are rings with one sender and one receiver. Messages arrive in order, so that an abort always finds its
//! command where it is, and a nexus has left only when its last task has ended. Payload is copied once, by whoever
//! receives it, and goes home to be dropped ([`memory::Abroad`]). A daemon has links from its first such unit on.
//!
//! A device may begin tasks of its own ([`scsi::DeviceServer::next_deadline`]); they stand in line, too.
//!
//! # Media
//!
//! A medium is a store that comes to such a unit and goes from it, while the unit stays. Whoever wants that has a
//! thread that may wait. It opens the medium that comes, unless that is another unit's ([`stores::ImageClaims`]), has
//! the device look at it ([`scsi::primary::DeviceType::scan`]), sends the owner what attaches to it
//! ([`engine::media::MediumMessage`]), and closes the one that was there when the owner has answered. At the owner the
//! change stands in the line of the unit. At its turn the device brings to its medium what was written, or says that it
//! cannot ([`scsi::DeviceServer::release_medium`]); the unit is frozen until nobody has an operation at the store; then
//! the store is another one, and nexuses are told ([`engine::tasks::TaskManager::change_medium`]). Whatever fails
//! before leaves everything as it was. While there is no medium, and while one is made ready, commands that need one
//! hear that ([`scsi::primary::MediumPresence`]). Media at rest are names of images, and no core knows of them.
//!
//! The control plane asks (`runtime/media.rs`), and so does a media changer, from its MOVE MEDIUM: the task waits for
//! [`scsi::Step::MoveMedia`] as for a record that is kept, what it wants goes to a thread that has all libraries
//! (`runtime/library.rs`, by [`engine::media::MediaMover`]), and the outcome carries the task on. The core does not
//! wait: the drive is another core's, or its own, where the change has to have its turn. Where the cartridges of a
//! library are is a record of its changer, kept before the status: after a kill in the middle each is in one place.
//!
//! # Where something new goes
//!
//! * A **fabric**: formats in `wire/`, the protocol machine in `fabrics/`, which implements [`scsi::Transport`]; what
//!   brings its bytes is a port; a room in `adapters/` that implements [`engine::fabric::Fabric`] joins them to a core:
//!   who is there, which nexus sees which logical units, what goes from core to core. A row of [`adapters::FABRICS`]
//!   says which tables of the configuration are its own, and what is counted for it; its
//!   [`adapters::fabric::FabricOptions`] say what they mean, and make [`adapters::fabric::FabricExports`] of it, by
//!   which the runtime makes it a part of each core, and of each change while it runs. Its ports are named by
//!   [`scsi::PortName`], and its nexuses get their numbers from [`engine::fabric::Core::new_nexus_id`]. `adapters/toy`
//!   has whole ones, for tests, on memory and on Ethernet frames, and `adapters/toy_regions` one that moves data by
//!   memory region.
//! * A **device type**: a room in `devices/` with its table of commands, implementing [`scsi::primary::DeviceType`]
//!   (shape, pages, state of the medium) and [`scsi::primary::CommandSet`] (table and tasks). What SPC says of every
//!   logical unit, INQUIRY, mode and log pages, self-tests, reservations, dispatch and reports of the table, comes with
//!   [`scsi::primary::PrimaryServer`]. Its options are a [`devices::DeviceOptions`] with a table of keys, and a row of
//!   [`engine::units::KINDS`] joins it with its store. `devices/toy` is a whole one, for tests.
//! * A **store**: a file in `stores/` with a [`stores::Backing`] to which each core attaches with its
//!   [`reactor::CoreContext`], and a row in `stores/options.rs` that says how it is configured and opened.
//! * A **port**: a file in `ports/` that implements [`net::FramePort`] (frames) or [`net::StreamHost`] (streams), with
//!   its options (keys, what it needs of a machine, addresses, start: a [`ports::PortOptions`]) and a row in
//!   `ports/drivers.rs`.
//! * A **registrar**: a [`memory::Registrar`] beside what stands for its device, which registers the regions of the
//!   core ([`reactor::CoreContext::regions`]) when it is made, and gives its table up when the device has stopped.
//!   DPDK's is `ports/dpdk/memory.rs`.
//! * Each with its table of keys (an [`options::Table`]), from which `configs/reference.toml` and
//!   `docs/configuration.md` are made.
//!
//! # Why it is so and not otherwise
//!
//! * `net` defines what a port is and `ports` implements it, so that TCP is tested on a wire in memory with a clock
//!   that the test turns.
//! * Time is a room of its own rather than a part of `reactor`, because `scsi` and `fabrics` need it and know no loop.
//! * Each core has its own arena rather than a share of one pool: its counts need no atomics, and a block goes home
//!   without a mailbox because a segment never leaves its core but to be copied. What cores share is lent by the store.
//! * A session stays on the core where its first connection was placed. A flow of a frame port stays where it arrived,
//!   because its frames go on to come in there; a socket of the kernel's goes to the core with the fewest streams as
//!   soon as it is accepted. After that only a further connection of the same session that is elsewhere is handed over.

pub mod activity;
pub mod adapters;
pub mod bench;
pub mod control;
pub mod counters;
pub mod devices;
pub mod engine;
pub mod fabrics;
pub mod formats;
pub mod image;
pub mod io;
pub mod machine;
pub mod memory;
pub mod net;
pub mod options;
pub mod ports;
pub mod reactor;
pub mod runtime;
pub mod scsi;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(all(test, not(feature = "sim")))]
mod sim;
pub mod stores;
pub mod sys;
pub mod time;
pub mod wire;
