// SPDX-License-Identifier: GPL-2.0-or-later
//! What ports tell each other when they log in: FLOGI, FDISC, PLOGI, PDISC and what accepts them (FC-LS, "Login
//! parameters").

use super::super::field::{bits, layout, number};
use super::super::name::WorldWideName;

bits! {
    /// Common features. Some bits mean something else in FLOGI than in PLOGI (FC-LS, "Common features").
    LoginFeatures(u16; 2) {
        /// PLOGI: relative offsets that only grow.
        CONTINUOUSLY_INCREASING_OFFSET = 0x8000,
        /// FLOGI: more identifiers will be asked for, by FDISC.
        MULTIPLE_N_PORT_ID = 0x8000,
        /// FLOGI accepted: nobody had this identifier shortly before.
        CLEAN_ADDRESS = 0x8000,
        /// PLOGI: relative offsets in any order.
        RANDOM_OFFSET = 0x4000,
        /// PLOGI, FLOGI: the vendor version level means something.
        VENDOR_VERSION = 0x2000,
        /// FLOGI accepted: more identifiers are given by FDISC.
        MULTIPLE_N_PORT_ID_ASSIGNED = 0x2000,
        /// It is an F_Port.
        F_PORT = 0x1000,
        /// The alternate credit model.
        ALTERNATE_CREDIT = 0x0800,
        /// E_D_TOV is in nanoseconds, rather than milliseconds.
        E_D_TOV_NANOSECONDS = 0x0400,
        /// Multicast.
        MULTICAST = 0x0200,
        /// Broadcast.
        BROADCAST = 0x0100,
        /// SEQ_CNT goes on from sequence to sequence.
        CONTINUOUSLY_INCREASING_SEQ_CNT = 0x0002,
        /// The payload is 256 bytes long.
        LONG_PAYLOAD = 0x0001,
    }
}

number! {
    /// The longest payload that a port receives, and four bits of buffer-to-buffer state change (FC-LS,
    /// "Buffer-to-buffer Receive Data_Field Size").
    #[derive(Debug, Default)]
    ReceiveSize(u16; 2)
}

impl ReceiveSize {
    /// The least that a port may say.
    pub const LEAST: u16 = 256;

    /// The size in bytes.
    pub const fn bytes(self) -> u16 {
        self.0 & 0xfff
    }

    /// The size, if it is a legal one.
    pub fn legal(self) -> Option<u16> {
        Some(self.bytes()).filter(|size| (Self::LEAST..=2112).contains(size) && size.is_multiple_of(4))
    }
}

number! {
    /// The word that means two things: concurrent sequences and kinds of data with relative offsets (PLOGI), or R_A_TOV
    /// (what accepts FLOGI) (FC-LS, "Common Service Parameters").
    #[derive(Debug, Default)]
    LoginWord(u32; 4)
}

impl LoginWord {
    /// For PLOGI: at most so many concurrent sequences; a bit for each category of information that has relative
    /// offsets.
    pub const fn sequences(total: u16, offset_categories: u16) -> Self {
        Self((total as u32) << 16 | offset_categories as u32)
    }

    /// For what accepts FLOGI: R_A_TOV in milliseconds.
    pub const fn r_a_tov(milliseconds: u32) -> Self {
        Self(milliseconds)
    }

    /// Total concurrent sequences.
    pub const fn total_sequences(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Categories of information that have relative offsets, a bit each.
    pub const fn offset_categories(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// R_A_TOV in milliseconds.
    pub const fn milliseconds(self) -> u32 {
        self.0
    }
}

bits! {
    /// Service options of a class (FC-LS, "Class Service Parameters").
    ClassOptions(u16; 2) {
        /// The class is supported.
        VALID = 0x8000,
        /// What is sent in order arrives in order.
        SEQUENTIAL_DELIVERY = 0x0800,
    }
}

layout! {
    /// What is told of one class of service (FC-LS, "Class Service Parameters").
    #[derive(Default)]
    ClassParameters, "class parameters", 16 bytes {
        /// Service options.
        [0] options: ClassOptions,
        /// Initiator control.
        [2] initiator_control: u16,
        /// Recipient control.
        [4] recipient_control: u16,
        /// The longest payload that is received.
        [6] receive_size: ReceiveSize,
        /// Sequences that can be received at once.
        [8] concurrent_sequences: u16,
        /// End-to-end credit.
        [10] credit: u16,
        /// Open sequences of one exchange.
        [12] open_sequences: u16,
    }
}

layout! {
    /// Payload of FLOGI, FDISC, PLOGI and PDISC, and of what accepts them (FC-LS, "Login parameters").
    LoginParameters, "login parameters", 116 bytes {
        /// The highest and the lowest version of FC-PH, a byte each: 2020h.
        [4] version: u16,
        /// Buffer-to-buffer credit; FCoE does not use it.
        [6] credit: u16,
        /// Common features.
        [8] features: LoginFeatures,
        /// The longest payload that is received.
        [10] receive_size: ReceiveSize,
        /// Sequences and offsets, or R_A_TOV.
        [12] word: LoginWord,
        /// E_D_TOV.
        [16] e_d_tov: u32,
        /// The port.
        [20] port_name: WorldWideName,
        /// The node; from an F_Port the fabric.
        [28] node_name: WorldWideName,
        /// Class 1.
        [36] class_1: ClassParameters,
        /// Class 2.
        [52] class_2: ClassParameters,
        /// Class 3.
        [68] class_3: ClassParameters,
        /// Class 4, or auxiliary parameters.
        [84] class_4: ClassParameters,
        /// Vendor version level.
        [100] vendor_version: [u8; 16],
    }
}

impl LoginParameters {
    /// For FLOGI: a port that speaks class 3 and receives so long payloads.
    pub fn flogi(port_name: WorldWideName, node_name: WorldWideName, receive_size: u16) -> Self {
        let none = ClassParameters::default();
        let options = ClassOptions::VALID.with(ClassOptions::SEQUENTIAL_DELIVERY);
        Self {
            version: 0x2020,
            credit: 10,
            features: LoginFeatures::default(),
            receive_size: ReceiveSize::new(receive_size),
            word: LoginWord::default(),
            e_d_tov: 0,
            port_name,
            node_name,
            class_1: none,
            class_2: none,
            class_3: ClassParameters { options, ..none },
            class_4: none,
            vendor_version: [0; 16],
        }
    }

    /// For PLOGI, with E_D_TOV in milliseconds.
    pub fn plogi(
        port_name: WorldWideName,
        node_name: WorldWideName,
        receive_size: u16,
        e_d_tov: u32,
    ) -> Self {
        let flogi = Self::flogi(port_name, node_name, receive_size);
        let class_3 = ClassParameters {
            receive_size: flogi.receive_size,
            concurrent_sequences: 0xff,
            open_sequences: 1,
            ..flogi.class_3
        };
        Self {
            features: LoginFeatures::CONTINUOUSLY_INCREASING_OFFSET,
            word: LoginWord::sequences(0xff, 0x1f),
            e_d_tov,
            class_3,
            ..flogi
        }
    }
}
