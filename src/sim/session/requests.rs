// SPDX-License-Identifier: GPL-2.0-or-later
//! What a session sends: commands with their data, task management, and what breaks the protocol.

use super::super::library;
use super::super::oracle::{Look, Order};
use super::super::plan::{Action, Attribute, Command, Function, Violation};
use super::super::scsi::{self, Made};
use super::link::State;
use super::{Env, Managing, PATIENCE, RUNNING_MAX, Reset, Running, Session};
use crate::fabrics::iscsi::initiator::{Digests, Initiator, Packet, Transfer};
use crate::wire::iscsi::{
    IscsiTaskAttribute, NO_TAG, NopOutHeader, RequestNumbers, ScsiCommandFlags, ScsiCommandHeader,
    SnackRequestHeader, SnackType,
};

impl Session {
    /// Sends what is to be done, as far as the command window allows.
    pub(super) fn work(&mut self, env: &mut Env) -> usize {
        let mut count = 0;
        while let Some(&action) = self.todo.front() {
            // Whoever uses a drive or a changer waits for its answer.
            let asks_library = matches!(action, Action::Command { command: Command::Library(_), .. });
            if asks_library && self.running.values().any(|running| running.request.is_some()) {
                break;
            }
            let immediate = matches!(
                action,
                Action::Manage { immediate: true, .. }
                    | Action::Violate { .. }
                    | Action::Flood { .. }
                    | Action::AbortAll { .. }
            );
            if !immediate && (!self.has_room() || self.running.len() >= RUNNING_MAX) {
                break;
            }
            let Some(at) = self.pick(env) else { break };
            self.todo.pop_front();
            count += 1;
            match action {
                Action::Command { disk, lba, blocks, command, attribute, .. } => {
                    self.command(at, disk, lba, blocks, command, attribute, env);
                }
                Action::Manage { disk, function, immediate, .. } => {
                    self.manage(at, disk, function, immediate, env)
                }
                Action::Ping { .. } => self.ping(at, false, env),
                Action::Flood { .. } => {
                    env.tally.count("floods of pings");
                    for _ in 0..env.plan.queue_depth {
                        if self.has_room() {
                            self.ping(at, false, env);
                        }
                        self.ping(at, true, env);
                    }
                }
                Action::AbortAll { immediate, .. } => self.abort_all(immediate, env),
                Action::Text { .. } => {
                    let text = self.make(at, |initiator| initiator.text(b"SendTargets=\0"));
                    self.texts.insert(text.bhs.itt(), at);
                    self.request(at, vec![text]);
                }
                Action::Violate { violation, .. } => self.violate(at, violation, env),
                _ => {}
            }
        }
        count
    }

    fn ping(&mut self, at: usize, immediate: bool, env: &mut Env) {
        let data: Vec<u8> = (0..env.dice.below(600)).map(|i| i.to_le_bytes()[0]).collect();
        let data = &data[..data.len().min(self.agreed.segment)];
        let ping = self.make(at, |initiator| {
            let ping = initiator.nop_out(data);
            if immediate { initiator.immediate(ping) } else { ping }
        });
        let echo = data[..data.len().min(self.segment_max())].to_vec();
        self.pings.insert(ping.bhs.itt(), (at, echo));
        self.request(at, vec![ping]);
    }

    /// Aborts all commands by name, at once.
    fn abort_all(&mut self, immediate: bool, env: &mut Env) {
        env.tally.count("aborts of all commands by name");
        let can_be = |running: &Running| self.links[running.at].is_up() && !running.lost;
        let tasks = self.running.iter().filter(|(_, running)| can_be(running));
        let tasks: Vec<(u32, usize, usize)> =
            tasks.map(|(&tag, running)| (tag, running.at, running.disk)).collect();
        for (tag, at, disk) in tasks {
            if immediate || self.has_room() {
                self.ask_for(Function::AbortTask, vec![tag], (at, disk, immediate), env);
            }
        }
    }

    /// Whether the wire damages what is sent and received on a connection.
    pub(super) fn is_damaged(&self, at: usize, env: &Env) -> bool {
        let Digests { header, data } = self.links[at].initiator.digests;
        header && data && env.plan.wires.damage > 0.0
    }

    /// The same for any of its connections.
    pub(super) fn is_damaged_session(&self, env: &Env) -> bool {
        (0..self.links.len()).any(|at| self.is_damaged(at, env))
    }

    pub(super) fn segment_max(&self) -> usize {
        usize::try_from(self.shape.segment_max).expect("24 bits")
    }

    fn order(&mut self, disk: usize, attribute: Attribute, env: &Env) -> Option<Order> {
        let base = &mut self.ranks[disk];
        let rank = match attribute {
            Attribute::Simple if !env.plan.disks[disk].serial => *base,
            // A unit that runs one command at a time keeps the order of all of them.
            Attribute::Simple | Attribute::Ordered | Attribute::HeadOfQueue => {
                *base += 2;
                *base - 1
            }
        };
        let set = self.nexus << 4 | u32::try_from(disk).expect("few");
        Some(Order { set, rank, head: attribute == Attribute::HeadOfQueue })
    }

    /// Makes a command for a disk, and says what the task set orders of it.
    fn make_for_disk(
        &mut self,
        at: usize,
        disk: usize,
        (lba, blocks): (u64, u64),
        command: Command,
        attribute: Attribute,
        env: &mut Env,
    ) -> (Option<Order>, Made) {
        // Commands whose data is damaged fall out of the order.
        let order = self.order(disk, attribute, env).filter(|_| !self.is_damaged(at, env));
        if let Some(head) = order.filter(|order| order.head) {
            env.oracle.head(head);
        }
        let shape = env.plan.disks[disk].clone();
        let (name, oracle, dice) = (self.shape.name, &mut env.oracle, &mut env.dice);
        (order, scsi::make(command, disk, lba, blocks, order, name, &shape, oracle, dice))
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is of one command")]
    fn command(
        &mut self,
        at: usize,
        disk: usize,
        lba: u64,
        blocks: u64,
        command: Command,
        attribute: Attribute,
        env: &mut Env,
    ) {
        let (order, request, made) = match (command, &env.plan.library, &mut env.library) {
            (Command::Library(command), Some(shape), Some(history)) => {
                let unit = disk - env.plan.disks.len();
                let (request, mut made) = library::make(command, unit, shape, history);
                made.sent = env.oracle.tick();
                (None, Some(request), made)
            }
            _ => {
                let (order, made) = self.make_for_disk(at, disk, (lba, blocks), command, attribute, env);
                (order, None, made)
            }
        };
        let transfer = Transfer {
            reads: (made.wanted > 0).then(|| u32::try_from(made.wanted).expect("short")),
            writes: (!made.out.is_empty()).then(|| u32::try_from(made.out.len()).expect("short")),
        };
        let mut packet = self.make(at, |initiator| initiator.command(scsi::lun(disk), &made.cdb, transfer));
        let ordered = match attribute {
            Attribute::Simple => IscsiTaskAttribute::SIMPLE,
            Attribute::Ordered => IscsiTaskAttribute::ORDERED,
            Attribute::HeadOfQueue => IscsiTaskAttribute::HEAD_OF_QUEUE,
        };
        packet.edit(|command: &mut ScsiCommandHeader| {
            command.flags = command.flags.with_attribute(ordered);
        });
        env.tally.count(&format!("sent {}", scsi::name(command)));
        if let Some(ledger) = env.ledgers.get_mut(disk) {
            ledger.sent(command, made.wanted, made.out.len());
        }
        if attribute != Attribute::Simple {
            env.tally.count(&format!("sent {attribute:?}"));
        }
        let len = made.out.len();
        let first_burst = self.agreed.first_burst.min(len);
        let mut sent = 0;
        if self.agreed.immediate_data && env.dice.chance(0.8) {
            sent = first_burst.min(self.agreed.segment);
            packet.data = made.out[..sent].to_vec();
        }
        let unsolicited = !self.agreed.initial_r2t && sent < first_burst && env.dice.chance(0.7);
        if unsolicited {
            packet.edit(|command: &mut ScsiCommandHeader| {
                command.flags = command.flags.without(ScsiCommandFlags::FINAL);
            });
        }
        let mut packets = vec![packet.clone()];
        while unsolicited && sent < first_burst {
            let end = (sent + self.agreed.segment).min(first_burst);
            let (data_sn, offset) = (packets.len() - 1, u32::try_from(sent).expect("short"));
            let (data_sn, data) = (u32::try_from(data_sn).expect("few"), &made.out[sent..end]);
            let initiator = &self.links[at].initiator;
            packets.push(initiator.data_out(&packet, None, data_sn, offset, data, end == first_burst));
            sent = end;
        }
        self.request(at, packets);
        // A function for immediate delivery on another connection, sent before it, may come after it and end it, too:
        // which tasks it finds is not for the order of CmdSN to say (RFC 7143 4.2.3.2).
        let overtaking = |managing: &Managing| {
            let set = managing.disk == disk || managing.function == Function::TargetReset;
            managing.immediate && managing.at != at && set && managing.function != Function::AbortTask
        };
        let doubtful = self.managing.values().any(overtaking);
        if doubtful || self.links[at].threatened {
            env.oracle.abort(order);
        }
        let tag = packet.bhs.itt();
        let look = Look { sent: made.sent, order, own: made.op };
        let (op, out, wanted) = (made.op, made.out, made.wanted);
        let got = Vec::with_capacity(wanted);
        let lba = made.lba;
        self.running.insert(
            tag,
            Running {
                packet,
                at,
                disk,
                lba,
                command,
                op,
                request,
                look,
                out,
                wanted,
                got,
                data_sn: 0,
                spoilt: false,
                lost: false,
                doubtful,
            },
        );
    }

    fn manage(&mut self, at: usize, disk: usize, function: Function, immediate: bool, env: &mut Env) {
        let mut at = at;
        // Whatever has not come over other connections when a target reset for immediate delivery comes is taken for
        // aborted by the target, which cannot know what it is: nobody does so who waits for the answer to something
        // else.
        let others = self.managing.len() + self.pings.len() + self.texts.len() + self.logouts.len();
        if function == Function::TargetReset && immediate && others > 0 && self.links.len() > 1 {
            return env.tally.count("events that met no session");
        }
        let on_disk = |r: &Running| r.disk == disk;
        let mut tasks: Vec<u32> =
            self.running.iter().filter(|(_, r)| on_disk(r)).map(|(&tag, _)| tag).collect();
        match function {
            Function::AbortTask => {
                // It goes where its task went (RFC 7143 11.5.1).
                let latest = self.running.iter().next_back();
                let Some((&tag, running)) = latest.filter(|(_, r)| self.links[r.at].is_up() && !r.lost)
                else {
                    return env.tally.count("events that met no session");
                };
                (tasks, at) = (vec![tag], running.at);
            }
            Function::TargetReset => tasks = self.running.keys().copied().collect(),
            Function::AbortTaskSet | Function::ClearTaskSet | Function::LunReset => {}
        }
        self.ask_for(function, tasks, (at, disk, immediate), env);
    }

    /// Sends a function that concerns these tasks.
    fn ask_for(
        &mut self,
        function: Function,
        tasks: Vec<u32>,
        (at, disk, immediate): (usize, usize, bool),
        env: &mut Env,
    ) {
        let lun = scsi::lun(disk);
        let number = match function {
            Function::AbortTask => 1,
            Function::AbortTaskSet => 2,
            Function::ClearTaskSet => 4,
            Function::LunReset => 5,
            Function::TargetReset => 6,
        };
        let task = tasks.first().map(|tag| self.running[tag].packet.clone());
        let request = self.make(at, |initiator| {
            let request = match (function, task) {
                (Function::AbortTask, Some(task)) => initiator.abort_task(&task),
                _ => initiator.task_management(number, lun),
            };
            // The next request has its CmdSN, too.
            if immediate { initiator.immediate(request) } else { request }
        });
        for task in &tasks {
            env.oracle.abort(self.running[task].look.order);
        }
        if tasks.iter().any(|task| self.running[task].at != at) {
            env.tally.count("functions for tasks of other connections");
        }
        let sent = env.oracle.tick();
        let disks = match function {
            Function::LunReset => disk..disk + 1,
            Function::TargetReset => 0..env.plan.units(),
            _ => 0..0,
        };
        let reset = disks.map(|disk| {
            env.resets.push(Reset { disk, end: None, name: self.shape.name });
            env.resets.len() - 1
        });
        let reset = reset.collect();
        env.tally.count(&format!("sent {function:?}"));
        let managing = Managing { function, at, disk, tasks, immediate, sent, reset };
        self.managing.insert(request.bhs.itt(), managing);
        self.request(at, vec![request]);
    }

    fn violate(&mut self, at: usize, violation: Violation, env: &mut Env) {
        use Violation as V;
        env.tally.count(&format!("violation {violation:?}"));
        let (segment, max_cmd_sn) = (self.agreed.segment, self.max_cmd_sn);
        let request = match violation {
            V::WrongOffset | V::WrongDataSn => {
                self.unorder(at, env);
                self.links[at].sabotage = Some(violation);
                return;
            }
            V::UnknownOpcode => {
                let (ttt, numbers) = (NO_TAG, RequestNumbers::default());
                let mut ping = Packet::new(&NopOutHeader { immediate: true, lun: 0, itt: 5, ttt, numbers });
                ping.bhs.bytes_mut()[0] |= 0x07;
                ping
            }
            V::StrayData => {
                let mut nobody = Initiator::new();
                nobody.itt = 0x7777_7776;
                let nobody = nobody.command(0, &[], Transfer::NONE);
                self.links[at].initiator.data_out(&nobody, None, 0, 0, &[1; 100], true)
            }
            V::LongSegment => self.make(at, |initiator| {
                let ping = initiator.nop_out(&vec![0; segment + 4]);
                initiator.immediate(ping)
            }),
            V::BeyondWindow => {
                // Beyond what the target may have said meanwhile on other connections, too.
                let far = max_cmd_sn.wrapping_add(0x1000_0000);
                let mut nobody = Initiator::new();
                (nobody.itt, nobody.cmd_sn) = (0x7777_7775, far);
                nobody.command(0, &[], Transfer::NONE).exp_stat_sn(0)
            }
            V::SecondLogin => self.make(at, |initiator| initiator.login(1, Some(3), &[])),
            V::Snack => {
                let (snack_type, lun, itt, ttt) = (SnackType::DATA_OR_R2T, 0, 5, 0);
                let (exp_stat_sn, beg_run, run_length) = (0, 0, 0);
                let header =
                    SnackRequestHeader { snack_type, lun, itt, ttt, exp_stat_sn, beg_run, run_length };
                Packet::new(&header).immediate()
            }
            V::Noise => {
                let noise = (0..48 + env.dice.below(2000)).map(|_| 0xff);
                self.links[at].out.extend(noise);
                return self.doom(at, env);
            }
        };
        self.links[at].send(&request);
        self.doom(at, env);
    }

    /// A connection has broken the protocol.
    pub(super) fn doom(&mut self, at: usize, env: &mut Env) {
        self.unorder(at, env);
        self.links[at].excuse = Some("violation");
        self.links[at].state = State::Doomed(env.now + PATIENCE);
    }
}
