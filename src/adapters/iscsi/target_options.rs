// SPDX-License-Identifier: GPL-2.0-or-later
//! `[[target]]`: what is exported, to whom, and through which portals.

use std::sync::Arc;

use super::accounts::{ConfiguredAccount, authentication, rule};
use super::sessions::Limits;
use super::topology::{AccessRule, Portal, Redirect};
use crate::adapters::fabric::KnownParts;
use crate::fabrics::iscsi::{Authentication, Parameters};
use crate::options::Absent::{Is, Means, Required};
use crate::options::ValueKind::{self, Number, Tables, Text, Texts};
use crate::options::{Named, Section, Table, key};
use crate::wire::iscsi::{check_name, normal_name};

/// Longest alias of a target, in bytes.
const ALIAS_MAX: usize = 255;

/// A target as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOptions {
    /// iSCSI name.
    pub name: String,
    /// Alias.
    pub alias: Option<String>,
    /// Its portals.
    pub portals: Vec<Arc<Portal>>,
    /// Portal group tags and the relative target port identifiers that they are to have.
    pub port_ids: Vec<(u16, u16)>,
    /// LUN and name of the logical unit, in ascending order of LUN.
    pub luns: Vec<(u16, String)>,
    /// What it negotiates.
    pub parameters: Parameters,
    /// How initiators authenticate themselves; `None`: not at all.
    pub authentication: Option<Authentication<String>>,
    /// Who may use what of it; everybody everything if there is no rule.
    pub access: Vec<AccessRule>,
    /// Where initiators are sent instead.
    pub redirects: Vec<Redirect>,
    /// How much it serves.
    pub limits: Limits,
}

/// What targets refer to.
pub(super) struct TargetReferences<'k, 'a> {
    pub(super) parts: &'k KnownParts<'k, 'a>,
    pub(super) portals: &'k Named<'a, Arc<Portal>>,
    pub(super) accounts: &'k Named<'a, ConfiguredAccount>,
}

impl TargetReferences<'_, '_> {
    /// The portals of a target: those that it names, or all.
    fn portals(&self, s: &Section<'_>) -> Option<Vec<Arc<Portal>>> {
        let portals = self.portals;
        if !s.given("portals") {
            return Some(portals.known().map(|(_, portal)| portal.clone()).collect());
        }
        let names = s.texts("portals", |text| Some(text.to_owned()))?;
        if names.is_empty() {
            s.error(
                "portals",
                "is an empty list",
                "nobody could reach the target; leave it out for all portals",
            );
        }
        let mut chosen = Vec::new();
        for (name, span) in names {
            match portals.look_up(s, ("portals", span.clone()), &name, "[[portal]]") {
                Some(portal) if chosen.contains(&portal) => {
                    s.error_at(span, "portals", format!("{name:?} is in the list twice"), "");
                }
                portal => chosen.extend(portal),
            }
        }
        Some(chosen.into_iter().filter_map(|portal| portals.get(portal).cloned()).collect())
    }
}

impl TargetOptions {
    /// Its table of keys.
    pub const TABLE: &Table = &Table {
        doc: "An iSCSI target.",
        groups: &[&[
            key(
                "name",
                Text("an iSCSI name such as \"iqn.2026-11.com.example:disks\""),
                Required,
                "\"iqn.2026-11.com.example.ptgt:reference\"",
                "Its iSCSI name (RFC 7143 4.2.7). Names compare without regard to case and are reported in lower \
                 case.",
            ),
            key(
                "alias",
                Text("a string of at most 255 bytes"),
                Means("none"),
                "\"the lab's disks\"",
                "A name for people.",
            ),
            key(
                "portals",
                Texts("the name of a [[portal]]"),
                Means("all of them"),
                "[\"main\"]",
                "The portals through which it is reached.",
            ),
            key(
                "port_ids",
                Tables(PORT_IDS),
                Is("[]"),
                "",
                "Relative target port identifiers of its portal groups, one table each, as in `port_ids = \
                 [{ group = 1, id = 7 }]`.",
            ),
            key(
                "luns",
                Tables(LUNS),
                Is("[]"),
                "[{ lun = 0, unit = \"thin0\" }]",
                "Its logical units, one table each.",
            ),
            key(
                "chap",
                ValueKind::Table(Authentication::OF_TARGET),
                Means("no authentication"),
                "",
                "How initiators authenticate themselves.",
            ),
            key(
                "access",
                Tables(AccessRule::TABLE),
                Is("[]"),
                "",
                "Who may use which LUNs. Without rules, everybody may use all.",
            ),
            key("redirect", Tables(Redirect::TABLE), Is("[]"), "", "Where initiators are sent instead."),
            key(
                "limits",
                ValueKind::Table(Limits::TABLE),
                Means("all defaults"),
                "",
                "Limits on sessions, connections, commands and memory.",
            ),
            key(
                "iscsi",
                ValueKind::Table(Parameters::TABLE),
                Means("all defaults"),
                "",
                "What it negotiates.",
            ),
        ]],
    };

    /// Reads one.
    pub(super) fn read(s: Section<'_>, known: &TargetReferences<'_, '_>) -> Option<Self> {
        let name = s.text("name").map(|name| normal_name(&name));
        if let Some(Err(why)) = name.as_deref().map(check_name) {
            s.error(
                "name",
                format!("is not an iSCSI name: {why}"),
                "such as \"iqn.2026-11.com.example:disks\"",
            );
        }
        let alias = s.text("alias");
        if alias.as_ref().is_some_and(|alias| alias.len() > ALIAS_MAX) {
            s.error("alias", "is too long", format!("at most {ALIAS_MAX} bytes (RFC 7143 6.1)"));
        }
        let chosen = known.portals(&s);
        let tags = chosen.iter().flatten().map(|portal| portal.group);
        let port_ids = port_ids(&s, &tags.collect::<Vec<_>>());
        let (numbers, luns) = known.parts.luns(&s);
        let parameters = Parameters::read(s.section("iscsi"));
        let authentication = authentication(s.section("chap"), known.accounts);
        let rules = s.sections("access").into_iter().map(|s| rule(s, known.accounts, &numbers));
        let access = rules.collect::<Option<_>>();
        let redirects = s.sections("redirect").into_iter().map(Redirect::read);
        let redirects = redirects.collect::<Option<_>>();
        let limits = Limits::read(s.section("limits"));
        s.finish();
        Some(Self {
            name: name?,
            alias,
            portals: chosen?,
            port_ids,
            luns,
            parameters: parameters?,
            authentication: authentication?,
            access: access?,
            redirects: redirects?,
            limits: limits?,
        })
    }
}

/// `target.port_ids`
const PORT_IDS: &Table = &Table {
    doc: "The number of a target port (a portal group of a target) among all target ports of the daemon. \
         Initiators may remember it. A port without an entry gets the lowest free number when it is first \
         used, and keeps it (`state_dir`); the number of a port that is gone is given to another only by \
         this table.",
    groups: &[&[
        key("group", Number(1, 65535), Required, "1", "The portal group tag, as in `group` of [[portal]]."),
        key(
            "id",
            Number(1, 65535),
            Required,
            "1",
            "Its relative target port identifier. No two target ports have the same.",
        ),
    ]],
};

/// `target.luns`
const LUNS: &Table = &Table {
    doc: "A logical unit, as in `luns = [{ lun = 0, unit = \"thin0\" }]`.",
    groups: &[&[
        key("lun", Number(0, 16383), Required, "0", "Its number."),
        key("unit", Text("the name of a [[disk]] or [[tape]]"), Required, "\"thin0\"", "The logical unit.")
            .or("disk"),
    ]],
};

/// The relative target port identifiers that are given, by portal group tag; `tags` are those of the target.
fn port_ids(s: &Section<'_>, tags: &[u16]) -> Vec<(u16, u16)> {
    let mut found: Vec<(u16, u16)> = Vec::new();
    for entry in s.sections("port_ids") {
        let (group, id): (Option<u16>, Option<u16>) = (entry.number("group"), entry.number("id"));
        if let Some(tag) = group.filter(|tag| !tags.contains(tag)) {
            let message = format!("the target has no portal of the group {tag}");
            entry.error("group", message, "give the `group` of one of its portals");
        }
        if group.is_some() && found.iter().any(|(taken, _)| Some(*taken) == group) {
            entry.error("group", "is in the list twice", "each portal group is one target port");
        }
        found.extend(group.zip(id));
        entry.finish();
    }
    found
}
