//! The metrics of PromEx.

use dichroic_model::names::page_name;
use dichroic_model::{MetricKind, NameStyle};
use dichroic_packs::{Aggregation, Packs, Selection, Variables};
use std::collections::BTreeSet;

#[test]
fn info_metrics_that_promex_dashboards_list_survive_idle_days() {
    let info = [
        "${prom_ex}.broadway.init.status.info",
        "${prom_ex}.ecto.repo.init.status.info",
        "${prom_ex}.oban.init.status.info",
        "${prom_ex}.phoenix.endpoint.port.info",
    ];
    let promex = Packs::builtin().promex();
    let definitions: Vec<_> = promex.iter().flat_map(|pack| &pack.definitions).collect();
    for name in info {
        let found: Vec<_> = definitions.iter().filter(|d| d.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        assert!(found[0].expire_s >= 30 * 24 * 3600, "{name}");
    }
}

/// Metrics in the panels of PromEx 1.11 that events can provide, without the prefix.
const QUERIED: [&str; 83] = [
    "absinthe_execute_complexity_size",
    "absinthe_execute_duration_milliseconds",
    "absinthe_execute_invalid_request_count",
    "absinthe_subscription_duration_milliseconds",
    "application_dependency_info",
    "application_primary_info",
    "application_uptime_milliseconds_count",
    "beam_memory_allocated_bytes",
    "beam_memory_atom_total_bytes",
    "beam_memory_binary_total_bytes",
    "beam_memory_code_total_bytes",
    "beam_memory_ets_total_bytes",
    "beam_memory_persistent_term_total_bytes",
    "beam_memory_processes_total_bytes",
    "beam_stats_active_task_count",
    "beam_stats_atom_count",
    "beam_stats_context_switch_count",
    "beam_stats_ets_count",
    "beam_stats_gc_count",
    "beam_stats_gc_reclaimed_bytes",
    "beam_stats_port_count",
    "beam_stats_port_io_byte_count",
    "beam_stats_process_count",
    "beam_stats_reduction_count",
    "beam_stats_run_queue_count",
    "beam_stats_uptime_milliseconds_count",
    "beam_system_atom_limit_info",
    "beam_system_dirty_cpu_schedulers_info",
    "beam_system_dirty_cpu_schedulers_online_info",
    "beam_system_dirty_io_schedulers_info",
    "beam_system_ets_limit_info",
    "beam_system_jit_support_info",
    "beam_system_logical_processors_info",
    "beam_system_logical_processors_available_info",
    "beam_system_logical_processors_online_info",
    "beam_system_port_limit_info",
    "beam_system_process_limit_info",
    "beam_system_schedulers_info",
    "beam_system_schedulers_online_info",
    "beam_system_smp_support_info",
    "beam_system_thread_support_info",
    "beam_system_time_correction_support_info",
    "beam_system_version_info",
    "beam_system_word_size_bytes_info",
    "broadway_init_status_info",
    "broadway_process_batch_duration_milliseconds",
    "broadway_process_batch_failure_size",
    "broadway_process_batch_success_size",
    "broadway_process_message_duration_milliseconds",
    "broadway_process_message_exception_duration_milliseconds",
    "ecto_repo_init_status_info",
    "ecto_repo_query_decode_time_milliseconds",
    "ecto_repo_query_execution_time_milliseconds",
    "ecto_repo_query_idle_time_milliseconds",
    "ecto_repo_query_queue_time_milliseconds",
    "ecto_repo_query_results_returned",
    "ecto_repo_query_total_time_milliseconds",
    "oban_init_status_info",
    "oban_job_complete_attempts",
    "oban_job_exception_attempts",
    "oban_job_exception_duration_milliseconds",
    "oban_job_exception_queue_time_milliseconds",
    "oban_job_processing_duration_milliseconds",
    "oban_job_queue_time_milliseconds",
    "oban_producer_dispatched_count",
    "oban_producer_duration_milliseconds",
    "oban_producer_exception_duration_milliseconds",
    "phoenix_channel_handled_in_duration_milliseconds",
    "phoenix_channel_joined_total",
    "phoenix_endpoint_port_info",
    "phoenix_http_request_duration_milliseconds",
    "phoenix_http_requests_total",
    "phoenix_live_view_handle_event_duration_milliseconds",
    "phoenix_live_view_handle_event_exception_duration_milliseconds",
    "phoenix_live_view_mount_duration_milliseconds",
    "phoenix_live_view_mount_exception_duration_milliseconds",
    "phoenix_socket_connected_duration_milliseconds",
    "plug_cowboy_http_request_duration_milliseconds",
    "plug_cowboy_http_requests_total",
    "plug_cowboy_http_response_size_bytes",
    "plug_router_http_request_duration_milliseconds",
    "plug_router_http_requests_total",
    "prom_ex_status_info",
];

#[test]
fn the_metrics_that_promex_dashboards_query_are_exposed() {
    let selection = Selection {
        packs: Packs::builtin().promex(),
        ..Selection::default()
    };
    let kind = |aggregation: &Aggregation| match aggregation {
        Aggregation::Counter | Aggregation::Sum { monotonic: true } => MetricKind::COUNTER,
        Aggregation::Sum { .. } | Aggregation::LastValue => MetricKind::Gauge,
        Aggregation::Buckets(_) | Aggregation::Exponential { .. } => MetricKind::Histogram,
    };
    let metrics = selection.compile("shop", &Variables::new()).metrics;
    let shown: BTreeSet<String> = metrics
        .iter()
        .filter(|metric| metric.verbatim)
        .map(|metric| {
            let page = page_name(
                &metric.name,
                &metric.unit,
                kind(&metric.aggregation),
                NameStyle::Verbatim,
            );
            format!("{}{}", page.base, if page.total { "_total" } else { "" })
        })
        .collect();
    for name in QUERIED {
        assert!(
            shown.contains(&format!("shop_prom_ex_{name}")),
            "{name} is not among {shown:#?}"
        );
    }
    let request = metrics
        .iter()
        .find(|m| m.name == "shop.prom_ex.phoenix.http.request.duration.milliseconds")
        .unwrap();
    assert_eq!(
        (request.raw_unit.as_str(), request.unit.as_str()),
        ("native", "ms")
    );
    assert_eq!(
        request.aggregation,
        Aggregation::Buckets(vec![10.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0, 30000.0])
    );
}
