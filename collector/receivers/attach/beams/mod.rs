//! The relay's modules: name, MD5 of the code as the node shows it, code. Written by scripts/build-beams.sh.

#[rustfmt::skip]
pub const BEAMS: &[(&str, &str, &[u8])] = &[
    ("dichroic", "4100fd588bceed8e5f4c9a1dc2d9caac", include_bytes!("dichroic.beam")),
    ("dichroic_account", "69c6142596389bc48a46271c0bcc8004", include_bytes!("dichroic_account.beam")),
    ("dichroic_attach", "25bdf0600e99fe2e04c72961b6cb2a7c", include_bytes!("dichroic_attach.beam")),
    ("dichroic_bucket", "fab4c995afebc1bb9f6e8c9ee954dcdb", include_bytes!("dichroic_bucket.beam")),
    ("dichroic_connection", "79f9ee682e187422911504146b2964b4", include_bytes!("dichroic_connection.beam")),
    ("dichroic_discover", "edf09b54289d7f6d3b9079cff530a212", include_bytes!("dichroic_discover.beam")),
    ("dichroic_engine", "18caf4a8b46c87de0028101b50b8f637", include_bytes!("dichroic_engine.beam")),
    ("dichroic_expr", "92c3a72647fca0513a417b18f3fa2ed9", include_bytes!("dichroic_expr.beam")),
    ("dichroic_handler", "a20a666cc65e8de8fc26661ae5c1b56e", include_bytes!("dichroic_handler.beam")),
    ("dichroic_identity", "5649d5cd7e488c736050587673571ef1", include_bytes!("dichroic_identity.beam")),
    ("dichroic_janitor", "7866b8f8f7277f8f28be72a21443f8a5", include_bytes!("dichroic_janitor.beam")),
    ("dichroic_mailboxes", "35ad86b7a6a7ea499034c55bfcf06026", include_bytes!("dichroic_mailboxes.beam")),
    ("dichroic_plan", "1e75de7eedb2651b8d2dbfe45bbf0257", include_bytes!("dichroic_plan.beam")),
    ("dichroic_relay", "416e8e4ac8b98fa0532110293730a0db", include_bytes!("dichroic_relay.beam")),
    ("dichroic_sampler", "cd300c37d2a47b8448b1ca0b537d7bc2", include_bytes!("dichroic_sampler.beam")),
    ("dichroic_socket", "b0b2aeb000b04e931bd43a399d545838", include_bytes!("dichroic_socket.beam")),
    ("dichroic_store", "cf9ea5bda6e8de8341648204823121d9", include_bytes!("dichroic_store.beam")),
    ("dichroic_sup", "99a71d715a416aba3f878265a7aed2e9", include_bytes!("dichroic_sup.beam")),
    ("dichroic_totals", "839d05b04123e1be7c397d0b606e9433", include_bytes!("dichroic_totals.beam")),
    ("dichroic_value", "359a47c60587d98cb03a5c53449e5210", include_bytes!("dichroic_value.beam")),
    ("dichroic_vm", "52c3c10bfb3bd15832f8671c4ab9799f", include_bytes!("dichroic_vm.beam")),
    ("dichroic_wire", "2985ca54869bd5d8c9e16b0a3e476ee5", include_bytes!("dichroic_wire.beam")),
];
