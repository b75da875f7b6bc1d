// SPDX-License-Identifier: GPL-2.0-or-later
//! Finds DPDK, compiles the shim and generates the bindings for what ptgt calls.

use std::path::PathBuf;
use std::process::{Command, exit};
use std::{env, fs};

/// What a machine without DPDK is told.
const HELP: &str = "ptgt's feature `dpdk` needs DPDK 22.11 or later and libclang to build:\n\n    \
    apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libclang-dev libdpdk-dev\n\n\
    or build without it, and without any C library:\n\n    cargo build --release --no-default-features\n";

fn give_up(why: &str) -> ! {
    eprintln!("\n{HELP}\n({why})");
    exit(1);
}

fn main() {
    for file in ["build.rs", "shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "LIBCLANG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    // The crate is asked for the version only: of the flags it drops -march and -include, which DPDK's inlines need.
    let mut probe = pkg_config::Config::new();
    if let Err(e) = probe.range_version("22.11".."25").cargo_metadata(false).probe("libdpdk") {
        give_up(&e.to_string());
    }
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let flags = match Command::new(pkg_config).args(["--cflags", "libdpdk"]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => give_up("pkg-config --cflags libdpdk fails"),
    };
    let flags: Vec<&str> = flags.split_whitespace().collect();
    // Drivers are loaded by the environment layer itself when it starts; that of rings is called by name besides.
    for library in ["eal", "ethdev", "mbuf", "mempool", "net", "net_ring", "ring", "kvargs"] {
        println!("cargo:rustc-link-lib=rte_{library}");
    }
    let mut shim = cc::Build::new();
    shim.file("shim.c").opt_level(3).warnings(false);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("ptgt_dpdk");
    let bindings = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(&flags)
        .size_t_is_usize(true)
        .derive_default(true)
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(false)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::NewType { is_bitfield: false, is_global: false })
        .opaque_type("rte_arp_ipv4|rte_arp_hdr|rte_mempool|rte_mbuf|rte_device|rte_ring")
        .allowlist_function("ptgt_.*")
        .allowlist_function("rte_eal_(init|cleanup|iova_mode)|rte_thread_(un)?register|rte_strerror")
        .allowlist_function(
            "rte_dev_(probe|remove|dma_map|dma_unmap)|rte_extmem_(un)?register|rte_mem_virt2iova",
        )
        .allowlist_function("rte_mempool_(free|avail_count|in_use_count)")
        .allowlist_function("rte_ring_(create|free)")
        .allowlist_function("rte_eth_dev_(info_get|configure|start|stop|close|set_mtu|get_mtu|socket_id)")
        .allowlist_function(
            "rte_eth_dev_(mac_addr_(add|remove)|set_mc_addr_list|get_port_by_name|adjust_nb_rx_tx_desc)",
        )
        .allowlist_function(
            "rte_eth_(rx|tx)_queue_setup|rte_eth_(macaddr_get|link_get_nowait|tx_done_cleanup)",
        )
        .allowlist_function(
            "rte_eth_(promiscuous|allmulticast)_(enable|disable)|rte_eth_xstats_get(_names)?|rte_eth_stats_get",
        )
        .allowlist_function("rte_eth_dev_rx_intr_ctl_q_get_fd|rte_eth_from_rings")
        .allowlist_type(
            "rte_(mbuf_ext_shared_info|eth_conf|eth_dev_info|ether_addr|eth_link|eth_xstat|eth_xstat_name)",
        )
        .allowlist_var("PTGT_.*|RTE_ETH_NAME_MAX_LEN|RTE_MAX_ETHPORTS|RTE_PKTMBUF_HEADROOM")
        .generate();
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    match bindings {
        Ok(bindings) => {
            fs::write(out.join("bindings.rs"), bindings.to_string()).expect("OUT_DIR is writable")
        }
        Err(e) => give_up(&format!("bindgen: {e}")),
    }
}
