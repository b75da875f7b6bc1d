// SPDX-License-Identifier: GPL-2.0-or-later
//! What is in a frame, by its header.

use super::bls::{AbtsScope, BaAcc, BaRjt};
use super::ct::{CtHeader, CtRequest};
use super::els::ElsRequest;
use super::fcp::{FcpCmnd, FcpRsp, FcpXferRdy};
use super::field::{Emit, Malformed, Parse};
use super::header::{FcHeader, FcType, RCtl};

/// The information unit that a frame carries alone (FC-FS, "Routing control (R_CTL)"). Answers are read with what was
/// asked for, [`ElsReply`](super::ElsReply) and [`CtAccept`](super::CtAccept); here they are bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of the standards")]
pub enum Body<'a> {
    ElsRequest(ElsRequest<'a>),
    ElsReply(&'a [u8]),
    CtRequest(CtHeader, CtRequest<'a>),
    CtReply(CtHeader, &'a [u8]),
    FcpCmnd(FcpCmnd<'a>),
    FcpXferRdy(FcpXferRdy),
    /// Data and its place.
    FcpData {
        offset: u32,
        data: &'a [u8],
    },
    FcpRsp(FcpRsp<'a>),
    FcpConf,
    /// SRR.
    Fc4Request(ElsRequest<'a>),
    Fc4Reply(&'a [u8]),
    Abts(AbtsScope),
    BaAcc(BaAcc),
    BaRjt(BaRjt),
}

impl<'a> Body<'a> {
    /// From a header and a payload without fill bytes.
    ///
    /// # Errors
    /// If the payload is not what the header says, or nothing of what is known here.
    pub fn parse(header: &FcHeader, data: &'a [u8]) -> Result<Self, Malformed> {
        const NAME: &str = "FC frame";
        Ok(match (header.fc_type, header.r_ctl) {
            (FcType::FCP, RCtl::FCP_CMND) => Self::FcpCmnd(Parse::parse(data)?),
            (FcType::FCP, RCtl::FCP_XFER_RDY) => Self::FcpXferRdy(Parse::parse(data)?),
            (FcType::FCP, RCtl::FCP_DATA) => {
                let offset = header.relative_offset();
                let offset = offset.ok_or_else(|| Malformed::missing(NAME, "relative offset"))?;
                Self::FcpData { offset, data }
            }
            (FcType::FCP, RCtl::FCP_RSP) => Self::FcpRsp(Parse::parse(data)?),
            (FcType::FCP, RCtl::SOLICITED_CONTROL) => Self::FcpConf,
            (FcType::FCP, RCtl::FC4_REQUEST) => Self::Fc4Request(Parse::parse(data)?),
            (FcType::FCP, RCtl::FC4_REPLY) => Self::Fc4Reply(data),
            (FcType::ELS, RCtl::ELS_REQUEST) => Self::ElsRequest(Parse::parse(data)?),
            (FcType::ELS, RCtl::ELS_REPLY) => Self::ElsReply(data),
            (FcType::CT, RCtl::UNSOLICITED_CONTROL) => {
                let header = CtHeader::parse(data)?;
                Self::CtRequest(header, CtRequest::parse(header.command, &data[CtHeader::LEN..])?)
            }
            (FcType::CT, RCtl::SOLICITED_CONTROL) => {
                Self::CtReply(CtHeader::parse(data)?, &data[CtHeader::LEN..])
            }
            (FcType::BLS, RCtl::ABTS) => Self::Abts(AbtsScope::of(header)),
            (FcType::BLS, RCtl::BA_ACC) => Self::BaAcc(Parse::parse(data)?),
            (FcType::BLS, RCtl::BA_RJT) => Self::BaRjt(Parse::parse(data)?),
            (fc_type, r_ctl) => {
                let code = u16::from_be_bytes([fc_type.raw(), r_ctl.raw()]);
                return Err(Malformed::value(NAME, "TYPE and R_CTL", code));
            }
        })
    }
}

impl Emit for Body<'_> {
    fn buffer_len(&self) -> usize {
        match self {
            Self::CtRequest(header, request) => header.buffer_len() + request.buffer_len(),
            Self::CtReply(header, rest) => header.buffer_len() + rest.len(),
            other => other.whole().map_or(0, Emit::buffer_len),
        }
    }

    fn emit(&self, out: &mut [u8]) {
        match self {
            Self::CtRequest(header, request) => {
                header.emit(out);
                request.emit(&mut out[CtHeader::LEN..]);
            }
            Self::CtReply(header, rest) => {
                header.emit(out);
                rest.emit(&mut out[CtHeader::LEN..]);
            }
            other => {
                if let Some(whole) = other.whole() {
                    whole.emit(out);
                }
            }
        }
    }
}

impl Body<'_> {
    /// What it is made of, if that is one structure.
    fn whole(&self) -> Option<&dyn Emit> {
        Some(match self {
            Self::ElsRequest(request) | Self::Fc4Request(request) => request,
            Self::ElsReply(bytes) | Self::Fc4Reply(bytes) | Self::FcpData { data: bytes, .. } => bytes,
            Self::FcpCmnd(command) => command,
            Self::FcpXferRdy(ready) => ready,
            Self::FcpRsp(response) => response,
            Self::BaAcc(accept) => accept,
            Self::BaRjt(reject) => reject,
            Self::FcpConf | Self::Abts(_) | Self::CtRequest(..) | Self::CtReply(..) => return None,
        })
    }
}
