// SPDX-License-Identifier: GPL-2.0-or-later
//! DPDK as bindgen sees it: the control functions that ptgt calls, and the shim (`shim.h`) for bursts and buffers,
//! which are inline functions in DPDK. What may be called when is DPDK's documentation (doc.dpdk.org, 22.11) and the
//! shim's; `ptgt::ports::dpdk` is the safe layer on top.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, clippy::all, missing_docs)]
#![allow(unsafe_op_in_unsafe_fn, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
