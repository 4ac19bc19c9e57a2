//! Which cases there are, and the tests made of them.

/// Makes a module of tests for each pair of adapters, and the table of all of them.
///
/// `every` runs all cases, `mesh` only those in which the two nodes meet.
///
/// ```ignore
/// receptor_tests::conformance! {
///     tokio: every(on_tokio::adapter, on_tokio::adapter),
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($($column:ident: $which:ident($near:path, $far:path)),+ $(,)?) => {
        static TABLE: $crate::suite::Table = $crate::suite::Table::new(&[
            $($crate::suite::Column { name: stringify!($column), cases: $column::CASES }),+
        ]);
        $($crate::conformance_cases! { $which $column $near, $far })+
    };
}

/// The list of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    (every $column:ident $near:path, $far:path) => {
        $crate::conformance_tests! { $column $near, $far;
            links two_nodes_over_tcp,
            links a_chain_of_three,
            links a_link_is_lost_and_comes_back,
            links an_embedding_program_brings_links,
            links one_byte_at_a_time,
            links a_broken_external_link_is_noticed,
            layers every_transport_carries_streams,
            layers every_transport_comes_back,
            layers a_certificate_of_another_node_is_refused,
            layers handshakes_that_go_nowhere_hold_nobody_up,
            layers datagrams_that_mean_nothing_harm_nobody,
            layers through_an_http_proxy,
            layers a_dead_session_gives_way_to_a_newer_one,
            streams both_halves_close_on_their_own,
            streams four_mebibytes_each_way_at_once,
            streams a_dropped_stream_is_closed,
            streams a_reader_that_does_not_read_holds_up_its_writer,
            streams many_at_once,
            streams nothing_on_the_way_shows_the_payload,
            streams nobody_listens,
            datagrams delivered_or_reported,
            datagrams rejected_by_a_firewall,
            datagrams rules_are_replaced_while_the_node_runs,
            datagrams a_full_socket_loses_and_goes_on,
            services listed_while_they_exist,
            services names_are_given_once,
            proxies each_half_closes_on_its_own,
            proxies unix_sockets,
            proxies on_one_node,
            proxies who_cannot_be_connected_is_closed,
            proxies start_errors,
            proxies advertised_with_their_tags,
            proxies a_broken_socket_breaks_the_other,
            proxies clients_that_come_and_go,
            proxies a_slow_reader_holds_up_its_server_only,
            proxies many_connections_at_once,
            proxies the_limit_of_connections,
            control greeting_and_status,
            control connected_through_to_a_service,
            control a_locked_socket_is_an_error_at_the_start,
            tls streams_prove_who_is_at_both_ends,
            tls a_certificate_of_one_node_is_not_good_for_another,
            tls control_over_tcp,
            tls local_sockets_of_proxies,
            tls configs_are_replaced_while_streams_run,
            tls a_slow_handshake_holds_up_nobody,
            tls unknown_names_are_errors,
            start a_taken_port_is_an_error,
            start a_contradiction_is_an_error,
            start a_data_directory_that_cannot_be_is_an_error,
            work a_local_unit,
            work a_remote_unit,
            work cancelled_local_and_remote,
            work goes_on_while_its_node_is_away,
            work goes_on_while_a_remote_node_is_away,
            work a_released_unit_is_remembered,
            work another_node_takes_a_unit_over,
            work no_runner_no_work,
            work signed_and_verified,
            work limits_are_kept,
            disk one_slow_unit_does_not_hold_up_others,
            disk a_slow_start_delays_nobody_else,
            disk a_node_ends_although_its_disk_hangs,
            shutdown everything_is_free_again,
            shutdown what_is_queued_is_sent,
            shutdown a_stuck_peer_does_not_keep_a_node,
            shutdown handles_end_with_their_node,
            shutdown without_handles_a_node_ends,
            shutdown any_handle_keeps_a_node_alive,
            start a_program_has_its_configuration_read_again,
        }
    };
    (mesh $column:ident $near:path, $far:path) => {
        $crate::conformance_tests! { $column $near, $far;
            links two_nodes_over_tcp,
            links a_chain_of_three,
            links a_link_is_lost_and_comes_back,
            links an_embedding_program_brings_links,
            links one_byte_at_a_time,
            links a_broken_external_link_is_noticed,
            layers every_transport_carries_streams,
            layers every_transport_comes_back,
            layers a_certificate_of_another_node_is_refused,
            layers handshakes_that_go_nowhere_hold_nobody_up,
            layers datagrams_that_mean_nothing_harm_nobody,
            layers through_an_http_proxy,
            layers a_dead_session_gives_way_to_a_newer_one,
            streams both_halves_close_on_their_own,
            streams four_mebibytes_each_way_at_once,
            streams a_dropped_stream_is_closed,
            streams a_reader_that_does_not_read_holds_up_its_writer,
            streams many_at_once,
            streams nothing_on_the_way_shows_the_payload,
            streams nobody_listens,
            datagrams delivered_or_reported,
            datagrams rejected_by_a_firewall,
            services listed_while_they_exist,
            proxies each_half_closes_on_its_own,
            proxies unix_sockets,
            proxies who_cannot_be_connected_is_closed,
            proxies advertised_with_their_tags,
            proxies a_broken_socket_breaks_the_other,
            proxies clients_that_come_and_go,
            proxies a_slow_reader_holds_up_its_server_only,
            proxies many_connections_at_once,
            control connected_through_to_a_service,
            tls streams_prove_who_is_at_both_ends,
            tls a_certificate_of_one_node_is_not_good_for_another,
            tls local_sockets_of_proxies,
            work a_remote_unit,
            work cancelled_local_and_remote,
            work goes_on_while_a_remote_node_is_away,
            work signed_and_verified,
            work another_node_takes_a_unit_over,
            shutdown what_is_queued_is_sent,
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($column:ident $near:path, $far:path; $($area:ident $case:ident),+ $(,)?) => {
        mod $column {
            #[allow(unused_imports, reason = "paths of adapters are given as the caller sees them")]
            use super::*;

            pub(super) const CASES: &[&str] = &[$(concat!(stringify!($area), "::", stringify!($case))),+];

            $(
                #[test]
                fn $case() {
                    $crate::suite::run(
                        &super::TABLE,
                        stringify!($column),
                        concat!(stringify!($area), "::", stringify!($case)),
                        ($near(), $far()),
                        $crate::suite::cases::$area::$case,
                    );
                }
            )+
        }
    };
}
