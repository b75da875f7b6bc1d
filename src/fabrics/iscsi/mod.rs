// SPDX-License-Identifier: GPL-2.0-or-later
//! iSCSI target (RFC 7143).
