//! The relay's modules: name, MD5 of the code as the node shows it, code. Written by scripts/build-beams.sh.

#[rustfmt::skip]
pub const BEAMS: &[(&str, &str, &[u8])] = &[
    ("dichroic", "4100fd588bceed8e5f4c9a1dc2d9caac", include_bytes!("dichroic.beam")),
    ("dichroic_account", "69c6142596389bc48a46271c0bcc8004", include_bytes!("dichroic_account.beam")),
    ("dichroic_attach", "f14aff10fd191dbfd43af39fb5c67159", include_bytes!("dichroic_attach.beam")),
    ("dichroic_bucket", "c909744dd2c9d14b311914dce08c5c01", include_bytes!("dichroic_bucket.beam")),
    ("dichroic_connection", "79f9ee682e187422911504146b2964b4", include_bytes!("dichroic_connection.beam")),
    ("dichroic_discover", "ead98c5f799d821796495f752f882c17", include_bytes!("dichroic_discover.beam")),
    ("dichroic_engine", "161413f9b237809aa4f64f43a6124149", include_bytes!("dichroic_engine.beam")),
    ("dichroic_expr", "92c3a72647fca0513a417b18f3fa2ed9", include_bytes!("dichroic_expr.beam")),
    ("dichroic_handler", "1e3fc39258f3e09adc5b585116d37ff4", include_bytes!("dichroic_handler.beam")),
    ("dichroic_identity", "5649d5cd7e488c736050587673571ef1", include_bytes!("dichroic_identity.beam")),
    ("dichroic_janitor", "2a6c0e3f41add9b16471ff878633da85", include_bytes!("dichroic_janitor.beam")),
    ("dichroic_logger", "1a3370432025a5a60aea7cabadf30888", include_bytes!("dichroic_logger.beam")),
    ("dichroic_mailboxes", "35ad86b7a6a7ea499034c55bfcf06026", include_bytes!("dichroic_mailboxes.beam")),
    ("dichroic_plan", "983b2404e567bfaa0887bfcf02307892", include_bytes!("dichroic_plan.beam")),
    ("dichroic_relay", "83db70768d6e2b17efa7b1bcb761a91b", include_bytes!("dichroic_relay.beam")),
    ("dichroic_sampler", "cd300c37d2a47b8448b1ca0b537d7bc2", include_bytes!("dichroic_sampler.beam")),
    ("dichroic_socket", "b0b2aeb000b04e931bd43a399d545838", include_bytes!("dichroic_socket.beam")),
    ("dichroic_store", "6454e4082dd2cc1594b1b9a29bfe1629", include_bytes!("dichroic_store.beam")),
    ("dichroic_sup", "b662b8a7d47c0ad98eced6897f9f0afa", include_bytes!("dichroic_sup.beam")),
    ("dichroic_totals", "d26680817d35b942c043e27c1b8f46f4", include_bytes!("dichroic_totals.beam")),
    ("dichroic_value", "359a47c60587d98cb03a5c53449e5210", include_bytes!("dichroic_value.beam")),
    ("dichroic_vm", "f64d10d4ca67f137c5995a3156f12a36", include_bytes!("dichroic_vm.beam")),
    ("dichroic_wire", "6911de7e27370117e1045bb2e41c95dc", include_bytes!("dichroic_wire.beam")),
];
