// SPDX-License-Identifier: GPL-2.0-or-later
//! Common Transport, and what a port says to the name server through it (FC-GS, "Common Transport for Generic
//! Services", "Name Server").

use smallvec::SmallVec;

use super::field::{Emit, Field, Malformed, Parse, arrays, codes, head, layout, requests};
use super::header::FcType;
use super::name::{FcId, WorldWideName};

codes! {
    /// The service (FC-GS, "CT_IU preamble", GS_Type).
    GsType(u8) {
        ALIAS_SERVICE = 0xf8,
        MANAGEMENT_SERVICE = 0xfa,
        DIRECTORY_SERVICE = 0xfc,
    }
}

codes! {
    /// The part of the service: that of the Directory Service is the name server, that of the Management Service FDMI
    /// (FC-GS, "CT_IU preamble", GS_Subtype).
    GsSubtype(u8) {
        NAME_SERVER = 0x02,
        FDMI = 0x10,
    }
}

codes! {
    /// What is asked of the name server, or how that was answered (FC-GS, "Name Server request/response codes").
    CtCommand(u16) {
        GA_NXT = 0x0100,
        GPN_ID = 0x0112,
        GNN_ID = 0x0113,
        GFF_ID = 0x011f,
        GID_PN = 0x0121,
        GID_FT = 0x0171,
        GPN_FT = 0x0172,
        GID_PT = 0x01a1,
        RPN_ID = 0x0212,
        RNN_ID = 0x0213,
        RCS_ID = 0x0214,
        RFT_ID = 0x0217,
        RSPN_ID = 0x0218,
        RFF_ID = 0x021f,
        RSNN_NN = 0x0239,
        DA_ID = 0x0300,
        REJECT = 0x8001,
        ACCEPT = 0x8002,
    }
}

codes! {
    /// Why a request was rejected (FC-GS, "Reject CT_IU reason codes").
    CtReason(u8) {
        NONE = 0x00,
        INVALID_COMMAND = 0x01,
        INVALID_VERSION = 0x02,
        LOGICAL_ERROR = 0x03,
        INVALID_SIZE = 0x04,
        LOGICAL_BUSY = 0x05,
        PROTOCOL_ERROR = 0x07,
        UNABLE_TO_PERFORM = 0x09,
        NOT_SUPPORTED = 0x0b,
        NOT_AUTHORIZED = 0x0d,
        VENDOR = 0xff,
    }
}

codes! {
    /// Why, in more detail (FC-GS, "Name Server reject reason code explanations").
    CtExplanation(u8) {
        NONE = 0x00,
        PORT_ID_NOT_REGISTERED = 0x01,
        PORT_NAME_NOT_REGISTERED = 0x02,
        NODE_NAME_NOT_REGISTERED = 0x03,
        CLASS_NOT_REGISTERED = 0x04,
        FC4_TYPES_NOT_REGISTERED = 0x07,
        SYMBOLIC_PORT_NAME_NOT_REGISTERED = 0x08,
        SYMBOLIC_NODE_NAME_NOT_REGISTERED = 0x09,
        PORT_TYPE_NOT_REGISTERED = 0x0a,
        FC4_FEATURES_NOT_REGISTERED = 0x0f,
        ACCESS_DENIED = 0x10,
        DATABASE_EMPTY = 0x12,
        NOTHING_IN_SCOPE = 0x13,
    }
}

layout! {
    /// What is before the payload of each information unit (FC-GS, "CT_IU preamble").
    CtHeader, "CT_IU", 16 bytes {
        /// The revision: 1.
        [0] revision: u8,
        /// The fabric's own.
        [1] in_id: FcId,
        /// The service.
        [4] gs_type: GsType,
        /// The part of it.
        [5] gs_subtype: GsSubtype,
        /// Options.
        [6] options: u8,
        /// What is asked for, or how that was answered.
        [8] command: CtCommand,
        /// Request: how many words the answer may have. Answer: how many more there would have been.
        [10] size: u16,
        /// Why it was rejected.
        [13] reason: CtReason,
        /// Why, in more detail.
        [14] explanation: CtExplanation,
        /// What the vendor says of it.
        [15] vendor: u8,
    }
}

impl CtHeader {
    /// Of something said to the name server, or by it.
    pub const fn name_server(command: CtCommand) -> Self {
        Self {
            revision: 1,
            in_id: FcId::UNASSIGNED,
            gs_type: GsType::DIRECTORY_SERVICE,
            gs_subtype: GsSubtype::NAME_SERVER,
            options: 0,
            command,
            size: 0,
            reason: CtReason::NONE,
            explanation: CtExplanation::NONE,
            vendor: 0,
        }
    }

    /// Of a request of the name server that is rejected.
    pub const fn reject(reason: CtReason, explanation: CtExplanation) -> Self {
        Self { reason, explanation, ..Self::name_server(CtCommand::REJECT) }
    }
}

/// Which FC-4s a port has: a bit each (FC-GS, "FC-4 TYPEs").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fc4Types([u8; 32]);

impl Fc4Types {
    /// The bits of a type are counted from the low end of a big-endian word of 32.
    fn place(fc_type: FcType) -> (usize, u8) {
        let number = fc_type.raw();
        (usize::from((number / 8) ^ 3), 1 << (number % 8))
    }

    /// Whether it has one.
    pub fn has(&self, fc_type: FcType) -> bool {
        let (byte, bit) = Self::place(fc_type);
        self.0[byte] & bit != 0
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, fc_type: FcType) -> Self {
        let (byte, bit) = Self::place(fc_type);
        self.0[byte] |= bit;
        self
    }
}

/// What a port is in each FC-4: four bits each, for FCP [`Self::TARGET`] and [`Self::INITIATOR`] (FC-GS, "FC-4
/// Features").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fc4Features([u8; 128]);

impl Default for Fc4Features {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Fc4Features {
    /// FCP: a target.
    pub const TARGET: u8 = 1;
    /// FCP: an initiator.
    pub const INITIATOR: u8 = 2;

    /// The nibbles of a type are counted from the low end of a big-endian word of 32 bits.
    fn place(fc_type: FcType) -> (usize, u8) {
        let number = fc_type.raw();
        (usize::from((number / 2) ^ 3), number % 2 * 4)
    }

    /// What it is in one.
    pub fn of(&self, fc_type: FcType) -> u8 {
        let (byte, shift) = Self::place(fc_type);
        self.0[byte] >> shift & 0xf
    }

    /// With what it is in one.
    #[must_use]
    pub fn with(mut self, fc_type: FcType, features: u8) -> Self {
        let (byte, shift) = Self::place(fc_type);
        self.0[byte] = self.0[byte] & !(0xf << shift) | (features & 0xf) << shift;
        self
    }
}

arrays!(Fc4Types Fc4Features);

/// A name for people, at most 255 bytes (FC-GS, "Symbolic Port Name", "Symbolic Node Name").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SymbolicName<'a>(&'a [u8]);

impl<'a> SymbolicName<'a> {
    /// As much of these bytes as it can have.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(&bytes[..bytes.len().min(255)])
    }

    /// Its bytes. They are the peer's: nothing says that they are text.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Registers a symbolic name for what `K` names: RSPN_ID, RSNN_NN (FC-GS, "Register Symbolic Port Name (RSPN_ID)",
/// "Register Symbolic Node Name (RSNN_NN)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterSymbolicName<'a, K> {
    /// Whose name it is.
    pub key: K,
    /// The name.
    pub name: SymbolicName<'a>,
}

impl<'a, K: Field> Parse<'a> for RegisterSymbolicName<'a, K> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const NAME: &str = "RSPN_ID or RSNN_NN";
        let key = K::get(head(bytes, K::LEN, NAME, "object")?);
        let len = usize::from(head(bytes, K::LEN + 1, NAME, "name length")?[K::LEN]);
        let name = &head(bytes, K::LEN + 1 + len, NAME, "name")?[K::LEN + 1..];
        Ok(Self { key, name: SymbolicName(name) })
    }
}

impl<K: Field> Emit for RegisterSymbolicName<'_, K> {
    fn buffer_len(&self) -> usize {
        K::LEN + 1 + self.name.0.len()
    }

    fn emit(&self, out: &mut [u8]) {
        self.key.put(&mut out[..K::LEN]);
        out[K::LEN] = u8::try_from(self.name.0.len()).expect("at most 255 bytes");
        self.name.0.emit(&mut out[K::LEN + 1..]);
    }
}

layout! {
    /// A port, by its identifier: GA_NXT, GPN_ID, GNN_ID, GFF_ID, DA_ID; what accepts GID_PN (FC-GS, "Port
    /// Identifier").
    PortId, "port identifier object", 4 bytes {
        /// The identifier.
        [1] id: FcId,
    }
}

layout! {
    /// A name: GID_PN; what accepts GPN_ID and GNN_ID (FC-GS, "Port Name", "Node Name").
    NameObject, "name object", 8 bytes {
        /// The name.
        [0] name: WorldWideName,
    }
}

layout! {
    /// Registers a name of a port: RPN_ID, RNN_ID (FC-GS, "Register Port Name (RPN_ID)", "Register Node Name
    /// (RNN_ID)").
    RegisterName, "RPN_ID or RNN_ID", 12 bytes {
        /// The port.
        [1] id: FcId,
        /// Its name, or that of its node.
        [4] name: WorldWideName,
    }
}

layout! {
    /// Registers classes of service (FC-GS, "Register Class of Service (RCS_ID)").
    RegisterClasses, "RCS_ID", 8 bytes {
        /// The port.
        [1] id: FcId,
        /// A bit for each class: class 3 is 8.
        [4] classes: u32,
    }
}

layout! {
    /// Registers FC-4s (FC-GS, "Register FC-4 TYPEs (RFT_ID)").
    RegisterTypes, "RFT_ID", 36 bytes {
        /// The port.
        [1] id: FcId,
        /// The FC-4s.
        [4] types: Fc4Types,
    }
}

layout! {
    /// Registers what a port is in an FC-4 (FC-GS, "Register FC-4 Features (RFF_ID)").
    RegisterFeatures, "RFF_ID", 8 bytes {
        /// The port.
        [1] id: FcId,
        /// What it is: [`Fc4Features::TARGET`], [`Fc4Features::INITIATOR`].
        [6] features: u8,
        /// The FC-4.
        [7] fc_type: FcType,
    }
}

layout! {
    /// Asks for the ports with an FC-4: GID_FT, GPN_FT (FC-GS, "Get Port Identifiers (GID_FT)", "Get Port Names
    /// (GPN_FT)").
    PortsWithType, "GID_FT or GPN_FT", 4 bytes {
        /// In which domain; 0 is all.
        [1] domain: u8,
        /// In which area; 0 is all.
        [2] area: u8,
        /// The FC-4.
        [3] fc_type: FcType,
    }
}

layout! {
    /// Asks for the ports of a kind (FC-GS, "Get Port Identifiers (GID_PT)").
    PortsOfKind, "GID_PT", 4 bytes {
        /// The kind: 1 N_Ports, 7Fh all Nx_Ports.
        [0] port_type: u8,
        /// In which domain; 0 is all.
        [1] domain: u8,
        /// In which area; 0 is all.
        [2] area: u8,
    }
}

layout! {
    /// What a port is in each FC-4: what accepts GFF_ID (FC-GS, "Get FC-4 Features (GFF_ID)").
    FeaturesObject, "FC-4 features object", 128 bytes {
        /// The features.
        [0] features: Fc4Features,
    }
}

requests! {
    /// A request of the name server, from behind the [`CtHeader`] (FC-GS, "Name Server").
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[expect(missing_docs, reason = "the names are those of FC-GS")]
    CtRequest, command: CtCommand {
        GaNxt(PortId) = GA_NXT,
        GpnId(PortId) = GPN_ID,
        GnnId(PortId) = GNN_ID,
        GffId(PortId) = GFF_ID,
        GidPn(NameObject) = GID_PN,
        GidFt(PortsWithType) = GID_FT,
        GpnFt(PortsWithType) = GPN_FT,
        GidPt(PortsOfKind) = GID_PT,
        RpnId(RegisterName) = RPN_ID,
        RnnId(RegisterName) = RNN_ID,
        RcsId(RegisterClasses) = RCS_ID,
        RftId(RegisterTypes) = RFT_ID,
        RspnId(RegisterSymbolicName<'a, PortId>) = RSPN_ID,
        RffId(RegisterFeatures) = RFF_ID,
        RsnnNn(RegisterSymbolicName<'a, WorldWideName>) = RSNN_NN,
        DaId(PortId) = DA_ID,
    }
}

impl<'a> CtRequest<'a> {
    /// From what is behind the header, without fill bytes.
    ///
    /// # Errors
    /// If the payload is too short.
    pub fn parse(command: CtCommand, bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::of(command, bytes)
    }
}

impl Emit for CtRequest<'_> {
    fn buffer_len(&self) -> usize {
        self.payload().buffer_len()
    }

    fn emit(&self, out: &mut [u8]) {
        self.payload().emit(out);
    }
}

/// A port of those that were asked for (FC-GS, "Get Port Identifiers (GID_FT)", "Get Port Names (GPN_FT)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedPort<N> {
    /// Its identifier.
    pub id: FcId,
    /// Its name, of type [`WorldWideName`], where that was asked for, else nothing.
    pub name: N,
}

/// What is behind the identifier of a listed port.
pub trait ListedName: Copy {
    /// Bytes of an entry.
    const ENTRY_LEN: usize;

    /// Reads it from an entry.
    fn read(entry: &[u8]) -> Self;

    /// Writes it to an entry of zeros.
    fn write(self, entry: &mut [u8]);
}

impl ListedName for () {
    const ENTRY_LEN: usize = 4;

    fn read(_: &[u8]) -> Self {}

    fn write(self, _: &mut [u8]) {}
}

impl ListedName for WorldWideName {
    const ENTRY_LEN: usize = 16;

    fn read(entry: &[u8]) -> Self {
        Field::get(&entry[8..])
    }

    fn write(self, entry: &mut [u8]) {
        self.put(&mut entry[8..]);
    }
}

/// Ports that were asked for, at least one (FC-GS, "Get Port Identifiers (GID_FT)", "Get Port Names (GPN_FT)").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortList<N>(SmallVec<[ListedPort<N>; 8]>);

impl<N: ListedName> PortList<N> {
    /// Of these ports, if there is one. None at all are [`CtExplanation::FC4_TYPES_NOT_REGISTERED`].
    pub fn new(ports: &[ListedPort<N>]) -> Option<Self> {
        (!ports.is_empty()).then(|| Self(SmallVec::from_slice(ports)))
    }

    /// The ports.
    pub fn ports(&self) -> &[ListedPort<N>] {
        &self.0
    }
}

/// Flag of the last entry.
const LAST: u8 = 0x80;

impl<'a, N: ListedName> Parse<'a> for PortList<N> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        const NAME: &str = "list of ports";
        let mut ports = SmallVec::new();
        loop {
            let at = ports.len() * N::ENTRY_LEN;
            let entry = &head(bytes, at + N::ENTRY_LEN, NAME, "entry")?[at..];
            ports.push(ListedPort { id: Field::get(&entry[1..4]), name: N::read(entry) });
            if entry[0] & LAST != 0 {
                return Ok(Self(ports));
            }
        }
    }
}

impl<N: ListedName> Emit for PortList<N> {
    fn buffer_len(&self) -> usize {
        self.0.len() * N::ENTRY_LEN
    }

    fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..self.buffer_len()];
        out.fill(0);
        for (port, entry) in self.0.iter().zip(out.chunks_exact_mut(N::ENTRY_LEN)) {
            port.id.put(&mut entry[1..4]);
            port.name.write(entry);
        }
        if let Some(last) = out.chunks_exact_mut(N::ENTRY_LEN).last() {
            last[0] = LAST;
        }
    }
}

/// What accepts a request, from behind the [`CtHeader`] (FC-GS, "Name Server"). A reject is in the header alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CtAccept<'a> {
    /// Nothing: of registrations.
    Registered,
    /// GID_PN.
    PortId(PortId),
    /// GPN_ID, GNN_ID.
    Name(NameObject),
    /// GFF_ID.
    Features(FeaturesObject),
    /// GID_FT, GID_PT.
    PortIds(PortList<()>),
    /// GPN_FT.
    PortNames(PortList<WorldWideName>),
    /// What is not read any further: GA_NXT, and requests that are not known here.
    Other(&'a [u8]),
}

impl<'a> CtAccept<'a> {
    /// From what is behind the header, all frames of the sequence together, without fill bytes; with what was asked
    /// for.
    ///
    /// # Errors
    /// If the payload is too short, or a list does not end.
    pub fn parse(request: CtCommand, bytes: &'a [u8]) -> Result<Self, Malformed> {
        Ok(match request {
            CtCommand::RPN_ID
            | CtCommand::RNN_ID
            | CtCommand::RCS_ID
            | CtCommand::RFT_ID
            | CtCommand::RSPN_ID
            | CtCommand::RFF_ID
            | CtCommand::RSNN_NN
            | CtCommand::DA_ID => Self::Registered,
            CtCommand::GID_PN => Self::PortId(Parse::parse(bytes)?),
            CtCommand::GPN_ID | CtCommand::GNN_ID => Self::Name(Parse::parse(bytes)?),
            CtCommand::GFF_ID => Self::Features(Parse::parse(bytes)?),
            CtCommand::GID_FT | CtCommand::GID_PT => Self::PortIds(Parse::parse(bytes)?),
            CtCommand::GPN_FT => Self::PortNames(Parse::parse(bytes)?),
            _ => Self::Other(bytes),
        })
    }

    fn payload(&self) -> &dyn Emit {
        match self {
            Self::Registered => &(&[] as &[u8]),
            Self::PortId(port) => port,
            Self::Name(name) => name,
            Self::Features(features) => features,
            Self::PortIds(ports) => ports,
            Self::PortNames(ports) => ports,
            Self::Other(bytes) => bytes,
        }
    }
}

impl Emit for CtAccept<'_> {
    fn buffer_len(&self) -> usize {
        self.payload().buffer_len()
    }

    fn emit(&self, out: &mut [u8]) {
        self.payload().emit(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_features_are_counted_from_the_low_end_of_words() {
        let mut types = [0; 32];
        types[2] = 1;
        assert_eq!(Fc4Types::default().with(FcType::FCP), Fc4Types(types));
        types[7] = 1;
        let both = Fc4Types::default().with(FcType::FCP).with(FcType::CT);
        assert_eq!(both, Fc4Types(types));
        assert!(both.has(FcType::CT) && both.has(FcType::FCP) && !both.has(FcType::IP));
        let mut features = [0; 128];
        features[7] = 3;
        let fcp = Fc4Features::default().with(FcType::FCP, 0xf).with(FcType::FCP, 0xf3);
        assert_eq!(fcp, Fc4Features(features));
        assert_eq!((fcp.of(FcType::FCP), fcp.of(FcType::new(9))), (3, 0));
        let all = |number| FcType::new(number);
        for number in 0..=255 {
            let (types, features) =
                (Fc4Types::default().with(all(number)), Fc4Features::default().with(all(number), 9));
            for other in 0..=255 {
                assert_eq!(types.has(all(other)), other == number);
                assert_eq!(features.of(all(other)), if other == number { 9 } else { 0 });
            }
        }
    }

    #[test]
    fn a_list_ends_with_its_last_port() {
        let bytes = [0, 1, 2, 3, 0x80, 4, 5, 6, 0x80, 7, 8, 9];
        let list = PortList::<()>::parse(&bytes).expect("a list");
        assert_eq!(list.ports().iter().map(|port| port.id.raw()).collect::<Vec<_>>(), [0x01_0203, 0x04_0506]);
        assert_eq!(PortList::<()>::parse(&bytes[..4]).map_err(|e| e.field), Err("entry"));
        assert_eq!(PortList::<()>::parse(&[]).map_err(|e| e.field), Err("entry"));
        assert_eq!(PortList::<()>::new(&[]), None);
    }
}
