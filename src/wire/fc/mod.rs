// SPDX-License-Identifier: GPL-2.0-or-later
//! Formats of Fibre Channel over Ethernet: FCoE frames ([`FcoeFrame`]) with what they carry ([`Body`]), and FIP
//! ([`FipFrame`]).
//!
//! Each structure is a type that can be read ([`Parse`]) and written ([`Emit`]), and what is written reads the same.
//! Names are those of the standards: FC-FS (frames, basic link services), FC-LS (extended link services), FC-GS (name
//! server), FC-BB-6 (FCoE, FIP), FCP-4 (SCSI). The texts of T11 were not at hand: layouts and codes are those of
//! Linux's headers and drivers and of Wireshark, and the captured frames bear out what is in them. What stands in
//! quotes behind a standard says what to look for there; it need not be the title of a clause.
//!
//! All bytes may come from anybody. Each length is checked, and what is wrong is said by a [`Malformed`]; reserved bits
//! are not looked at. Whether a message makes sense at its time is not for here to say.
//!
//! A VLAN tag is taken off, and put on, where Ethernet frames are: in [`net`](crate::net).

use super::field;

mod bls;
mod body;
mod ct;
mod els;
mod fcp;
mod fip;
mod frame;
mod header;
mod name;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod rewrite;
#[cfg(test)]
mod tests;

pub use field::{Defect, Emit, Malformed, Parse};

pub use bls::{AbtsScope, BaAcc, BaRjt, BaRjtExplanation, BaRjtReason, SeqIdValidity};
pub use body::Body;
pub use ct::{
    CtAccept, CtCommand, CtExplanation, CtHeader, CtReason, CtRequest, Fc4Features, Fc4Types, FeaturesObject,
    GsSubtype, GsType, ListedName, ListedPort, NameObject, PortId, PortList, PortsOfKind, PortsWithType,
    RegisterClasses, RegisterFeatures, RegisterName, RegisterSymbolicName, RegisterTypes, SymbolicName,
};
pub use els::{
    AddressFormat, Adisc, ClassOptions, ClassParameters, Echo, ElsCode, ElsEmpty, ElsReply, ElsRequest,
    ExchangeId, ExchangeStatus, FcpServiceParameters, GeneralTopology, LoginFeatures, LoginParameters,
    LoginWord, Logo, LsRjt, LsRjtExplanation, LsRjtReason, PageFlags, PageResponse, ProcessLogin, RecAcc,
    ReceiveSize, Rls, RlsAcc, Rnid, RnidAcc, RnidFormat, Rscn, RscnPage, RtvAcc, Scr, ScrFunction,
    ServicePage, Srr, ThirdPartyPage, TimeoutQualifier,
};
pub use fcp::{
    FcpCmnd, FcpResidual, FcpRsp, FcpTaskAttribute, FcpTaskManagement, FcpTransfer, FcpXferRdy, RspCode,
    RspFlags,
};
pub use fip::{
    ETHERTYPE_FIP, FabricDescriptor, Fc4Attributes, FipDescriptor, FipDescriptorType, FipEls, FipElsBody,
    FipFlags, FipFrame, FipHeader, FipMessage, FkaAdvPeriod, Vn2VnMessage, VnClaim, VxPort,
};
pub use frame::{ETHERTYPE_FCOE, Eof, FcCrc, FcoeFrame, FcoePacket, PAYLOAD_MAX, Sof};
pub use header::{DfCtl, FCtl, FcHeader, FcType, RCtl, UNASSIGNED_XID};
pub use name::{FcId, FcMap, MacAddress, NaaName, NotAName, RegisteredExtendedName, WorldWideName};
