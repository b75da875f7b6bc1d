// SPDX-License-Identifier: GPL-2.0-or-later
//! Extended link services: how ports log in, ask each other, and tell of changes (FC-LS, "Extended Link Services").

mod login;
mod process;
mod structures;

use super::field::{Emit, Malformed, Parse, codes, head, requests};

pub use login::{ClassOptions, ClassParameters, LoginFeatures, LoginParameters, LoginWord, ReceiveSize};
pub use process::{FcpServiceParameters, PageFlags, PageResponse, ProcessLogin, ServicePage, ThirdPartyPage};
pub use structures::{
    AddressFormat, Adisc, Echo, ElsEmpty, ExchangeId, ExchangeStatus, GeneralTopology, Logo, LsRjt,
    LsRjtExplanation, LsRjtReason, RecAcc, Rls, RlsAcc, Rnid, RnidAcc, RnidFormat, Rscn, RscnPage, RtvAcc,
    Scr, ScrFunction, Srr, TimeoutQualifier,
};

codes! {
    /// The first byte of a payload: what is asked for, or how that was answered (FC-LS, "ELS command codes").
    ElsCode(u8) {
        LS_RJT = 0x01,
        LS_ACC = 0x02,
        PLOGI = 0x03,
        FLOGI = 0x04,
        LOGO = 0x05,
        RES = 0x08,
        RSS = 0x09,
        RTV = 0x0e,
        RLS = 0x0f,
        ECHO = 0x10,
        TEST = 0x11,
        RRQ = 0x12,
        REC = 0x13,
        SRR = 0x14,
        RDP = 0x18,
        PRLI = 0x20,
        PRLO = 0x21,
        TPRLO = 0x24,
        PDISC = 0x50,
        FDISC = 0x51,
        ADISC = 0x52,
        RSCN = 0x61,
        SCR = 0x62,
        RNID = 0x78,
        RLIR = 0x79,
        RPSC = 0x7d,
        LKA = 0x80,
        AUTH = 0x90,
    }
}

fn code(bytes: &[u8]) -> Result<ElsCode, Malformed> {
    head(bytes, 1, "ELS", "code").map(|head| ElsCode::new(head[0]))
}

requests! {
    /// A request (FC-LS, "Extended Link Services"). One that is not read any further has its whole payload, from the
    /// code on, which is not empty.
    #[derive(Clone, PartialEq, Eq, Debug)]
    #[expect(missing_docs, reason = "the names are those of FC-LS")]
    ElsRequest, code: ElsCode {
        Plogi(LoginParameters) = PLOGI,
        Flogi(LoginParameters) = FLOGI,
        Fdisc(LoginParameters) = FDISC,
        Pdisc(LoginParameters) = PDISC,
        Logo(Logo) = LOGO,
        Adisc(Adisc) = ADISC,
        Prli(ProcessLogin<ServicePage>) = PRLI,
        Prlo(ProcessLogin<ServicePage>) = PRLO,
        Tprlo(ProcessLogin<ThirdPartyPage>) = TPRLO,
        Rtv(ElsEmpty) = RTV,
        Rls(Rls) = RLS,
        Rrq(ExchangeId) = RRQ,
        Rec(ExchangeId) = REC,
        /// An FC-4 link service, but else like the others.
        Srr(Srr) = SRR,
        Echo(Echo<'a>) = ECHO,
        Test(Echo<'a>) = TEST,
        Rnid(Rnid) = RNID,
        Scr(Scr) = SCR,
        Rscn(Rscn) = RSCN,
    }
}

impl<'a> Parse<'a> for ElsRequest<'a> {
    /// From a payload without fill bytes.
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::of(code(bytes)?, bytes)
    }
}

impl Emit for ElsRequest<'_> {
    fn buffer_len(&self) -> usize {
        self.payload().buffer_len()
    }

    fn emit(&self, out: &mut [u8]) {
        self.payload().emit(out);
        out[0] = self.code().raw();
    }
}

/// An answer. What is in one that accepts depends on the request (FC-LS, "Extended Link Services").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of FC-LS")]
pub enum ElsReply<'a> {
    Reject(LsRjt),
    /// PLOGI, FLOGI, FDISC, PDISC.
    Login(LoginParameters),
    /// PRLI, PRLO.
    Prli(ProcessLogin<ServicePage>),
    Tprlo(ProcessLogin<ThirdPartyPage>),
    Adisc(Adisc),
    Rtv(RtvAcc),
    Rls(RlsAcc),
    Rec(RecAcc),
    Echo(Echo<'a>),
    Rnid(RnidAcc),
    /// LOGO, RRQ, SRR, SCR, RSCN.
    Accept(ElsEmpty),
    /// What accepts a request that is not known here: the whole payload from the code on, which is not empty.
    Other(&'a [u8]),
}

impl<'a> ElsReply<'a> {
    /// From a payload without fill bytes, with what was asked for.
    ///
    /// # Errors
    /// If the payload is too short, or has a value that it must not have.
    pub fn parse(request: ElsCode, bytes: &'a [u8]) -> Result<Self, Malformed> {
        match code(bytes)? {
            ElsCode::LS_RJT => return LsRjt::parse(bytes).map(Self::Reject),
            ElsCode::LS_ACC => {}
            other => return Err(Malformed::value("ELS reply", "code", other.raw())),
        }
        Ok(match request {
            ElsCode::PLOGI | ElsCode::FLOGI | ElsCode::FDISC | ElsCode::PDISC => {
                Self::Login(Parse::parse(bytes)?)
            }
            ElsCode::PRLI | ElsCode::PRLO => Self::Prli(Parse::parse(bytes)?),
            ElsCode::TPRLO => Self::Tprlo(Parse::parse(bytes)?),
            ElsCode::ADISC => Self::Adisc(Parse::parse(bytes)?),
            ElsCode::RTV => Self::Rtv(Parse::parse(bytes)?),
            ElsCode::RLS => Self::Rls(Parse::parse(bytes)?),
            ElsCode::REC => Self::Rec(Parse::parse(bytes)?),
            ElsCode::ECHO => Self::Echo(Parse::parse(bytes)?),
            ElsCode::RNID => Self::Rnid(Parse::parse(bytes)?),
            ElsCode::LOGO | ElsCode::RRQ | ElsCode::SRR | ElsCode::SCR | ElsCode::RSCN => {
                Self::Accept(Parse::parse(bytes)?)
            }
            _ => Self::Other(bytes),
        })
    }

    fn payload(&self) -> &dyn Emit {
        match self {
            Self::Reject(reject) => reject,
            Self::Login(login) => login,
            Self::Prli(process) => process,
            Self::Tprlo(process) => process,
            Self::Adisc(adisc) => adisc,
            Self::Rtv(rtv) => rtv,
            Self::Rls(rls) => rls,
            Self::Rec(rec) => rec,
            Self::Echo(data) => data,
            Self::Rnid(rnid) => rnid,
            Self::Accept(accept) => accept,
            Self::Other(bytes) => bytes,
        }
    }
}

impl Emit for ElsReply<'_> {
    fn buffer_len(&self) -> usize {
        self.payload().buffer_len()
    }

    fn emit(&self, out: &mut [u8]) {
        self.payload().emit(out);
        let code = if matches!(self, Self::Reject(_)) { ElsCode::LS_RJT } else { ElsCode::LS_ACC };
        out[0] = code.raw();
    }
}
