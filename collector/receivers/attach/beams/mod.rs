//! The relay's modules: name, MD5 of the code as the node shows it, code. Written by scripts/build-beams.sh.

#[rustfmt::skip]
pub const BEAMS: &[(&str, &str, &[u8])] = &[
    ("dichroic", "4100fd588bceed8e5f4c9a1dc2d9caac", include_bytes!("dichroic.beam")),
    ("dichroic_account", "7b31a3a47209974d9d2c8916af067c69", include_bytes!("dichroic_account.beam")),
    ("dichroic_attach", "f14aff10fd191dbfd43af39fb5c67159", include_bytes!("dichroic_attach.beam")),
    ("dichroic_bucket", "8b3494132d024906be1210122f55c158", include_bytes!("dichroic_bucket.beam")),
    ("dichroic_connection", "79f9ee682e187422911504146b2964b4", include_bytes!("dichroic_connection.beam")),
    ("dichroic_discover", "172b0e331d21d2cbef734b9d2c580e43", include_bytes!("dichroic_discover.beam")),
    ("dichroic_engine", "3c8580d008866a3ea573530d44a1ff86", include_bytes!("dichroic_engine.beam")),
    ("dichroic_expr", "bb5c3cb4094d95c2150e31bdda5d2faf", include_bytes!("dichroic_expr.beam")),
    ("dichroic_handler", "a90bce87920d4db4b7e1d8e2e34acb63", include_bytes!("dichroic_handler.beam")),
    ("dichroic_identity", "5649d5cd7e488c736050587673571ef1", include_bytes!("dichroic_identity.beam")),
    ("dichroic_janitor", "2a6c0e3f41add9b16471ff878633da85", include_bytes!("dichroic_janitor.beam")),
    ("dichroic_logger", "1a3370432025a5a60aea7cabadf30888", include_bytes!("dichroic_logger.beam")),
    ("dichroic_mailboxes", "35ad86b7a6a7ea499034c55bfcf06026", include_bytes!("dichroic_mailboxes.beam")),
    ("dichroic_own", "7fcbb9f9b48bfa811d73c9255663ddd7", include_bytes!("dichroic_own.beam")),
    ("dichroic_plan", "a13bf0b36dcd84750e50c79ba707d314", include_bytes!("dichroic_plan.beam")),
    ("dichroic_relay", "83db70768d6e2b17efa7b1bcb761a91b", include_bytes!("dichroic_relay.beam")),
    ("dichroic_sampler", "cd300c37d2a47b8448b1ca0b537d7bc2", include_bytes!("dichroic_sampler.beam")),
    ("dichroic_socket", "b0b2aeb000b04e931bd43a399d545838", include_bytes!("dichroic_socket.beam")),
    ("dichroic_store", "dc5415668342a09b6aaf9f9284faa618", include_bytes!("dichroic_store.beam")),
    ("dichroic_sup", "b662b8a7d47c0ad98eced6897f9f0afa", include_bytes!("dichroic_sup.beam")),
    ("dichroic_totals", "1cdd3e5905834841d78e06f945335160", include_bytes!("dichroic_totals.beam")),
    ("dichroic_value", "359a47c60587d98cb03a5c53449e5210", include_bytes!("dichroic_value.beam")),
    ("dichroic_vm", "9de7e5487a1a7c7dccf950bd3365f19d", include_bytes!("dichroic_vm.beam")),
    ("dichroic_wire", "6911de7e27370117e1045bb2e41c95dc", include_bytes!("dichroic_wire.beam")),
];
