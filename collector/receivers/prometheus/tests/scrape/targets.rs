//! Scrapes of valid pages: added series, labels, formats, limits, and changed targets.

use crate::common::{on_ingest_thread, store};
use crate::harness::*;
use dichroic_model::Limits;
use dichroic_receiver_prometheus::scrape::{Health, Scraper};

#[test]
fn a_scrape_adds_the_series_that_describe_it() {
    on_ingest_thread(async {
        let (store, server) = (
            store(Limits::default()),
            Server::start(text("a 1\nb{job=\"own\"} 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        let status = until(&scraper.statuses(), &server.address, |status| status.scrapes >= 3).await;
        assert_eq!(
            (status.health, status.samples, status.body_bytes, status.failures),
            (Health::Up, 2, 19, 0)
        );
        let series = scraped(&store).await;
        let check =
            |name: &str, expected: &str| assert_eq!(of(&series, &server, name), Some(expected), "{name}");
        check("a", "1");
        check("up", "1");
        check("scrape_samples_scraped", "2");
        check("scrape_samples_post_metric_relabeling", "2");
        check("scrape_series_added", "0");
        assert!(
            of(&series, &server, "scrape_duration_seconds")
                .is_some_and(|value| value.parse::<f64>().is_ok_and(|v| v > 0.0))
        );
        assert!(
            series.keys().any(|key| key.contains("exported_job=\"own\"")),
            "{series:?}"
        );
        assert!(store.borrow().ledger().balances());
        assert_eq!(*server.connections.borrow(), 1, "the connection is kept");
        let request = server.requests.borrow()[0].to_ascii_lowercase();
        for header in [
            "get /metrics http/1.1",
            "accept: application/openmetrics-text;version=1.0.0",
            "text/plain;version=0.0.4",
            "accept-encoding: gzip",
            "x-prometheus-scrape-timeout-seconds: 0.25",
            "user-agent: dichroic/",
        ] {
            assert!(request.contains(header), "{header} is missing in {request}");
        }
    });
}

#[test]
fn the_series_that_describe_a_scrape_are_admitted_at_every_limit() {
    on_ingest_thread(async {
        for limits in [
            Limits {
                series: 0,
                ..Limits::default()
            },
            Limits {
                memory_bytes: 1,
                ..Limits::default()
            },
        ] {
            let (store, server) = (store(limits), Server::start(text("a 1\n")).await);
            let mut scraper = Scraper::new(store.clone());
            scraper.set_targets(vec![target(&server, |_| {})]);
            until(&scraper.statuses(), &server.address, |status| status.scrapes >= 2).await;
            let series = scraped(&store).await;
            let shown = |name: &str| of(&series, &server, name);
            assert_eq!((shown("a"), shown("up")), (None, Some("1")), "{series:?}");
            assert_eq!(shown("scrape_samples_scraped"), Some("1"));
            assert_eq!(shown("scrape_series_added"), Some("0"));
            assert!(store.borrow().ledger().balances());
        }
    });
}

#[test]
fn with_honor_labels_the_labels_of_the_page_win() {
    on_ingest_thread(async {
        let (store, server) = (
            store(Limits::default()),
            Server::start(text("b{job=\"own\"} 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |config| config.honor_labels = true)]);
        until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Up
        })
        .await;
        let series = scraped(&store).await;
        assert!(
            series
                .keys()
                .any(|key| key.contains(" b{") && key.contains("job=\"own\"") && !key.contains("exported")),
            "{series:?}"
        );
    });
}

#[test]
fn openmetrics_and_gzip_are_read() {
    on_ingest_thread(async {
        let (store, server) = (store(Limits::default()), Server::start(gzip(b"a 1\n")).await);
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Up
        })
        .await;
        assert_eq!(of(&scraped(&store).await, &server, "a"), Some("1"));
        let body = "# TYPE c counter\nc_total 5\n# TYPE python info\npython_info{version=\"3\"} 1\n# EOF\n";
        server.answers(Answer::Bytes(page(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body,
        )));
        until(&scraper.statuses(), &server.address, |status| status.samples == 2).await;
        assert_eq!(of(&scraped(&store).await, &server, "c_total"), Some("5"));
        let runtimes: Vec<_> = store
            .borrow()
            .sources()
            .map(|(source, _, _)| source.spec.runtime.as_str())
            .collect();
        assert_eq!(runtimes, ["python"]);
    });
}

#[test]
fn a_target_that_closes_idle_connections_is_still_scraped() {
    on_ingest_thread(async {
        let Answer::Bytes(answer) = text("a 1\n") else {
            return;
        };
        let (store, server) = (
            store(Limits::default()),
            Server::start(Answer::Close(answer)).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        let status = until(&scraper.statuses(), &server.address, |status| status.scrapes >= 3).await;
        assert_eq!((status.health, status.failures), (Health::Up, 0), "{status:?}");
    });
}

#[test]
fn a_label_explosion_stops_at_the_limits() {
    on_ingest_thread(async {
        let (store, server) = (
            store(Limits {
                series: 50,
                ..Limits::default()
            }),
            Server::start(text("a 1\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Up
        })
        .await;
        for round in 0..3 {
            let page: String = (0..2000)
                .map(|i| format!("a{{id=\"{round}-{i}\"}} 1\n"))
                .collect();
            server.answers(text(&page));
            let before = until(&scraper.statuses(), &server.address, |_| true)
                .await
                .scrapes;
            until(&scraper.statuses(), &server.address, |status| {
                status.samples == 2000 && status.scrapes > before + 1
            })
            .await;
            assert!(store.borrow().series() <= 50);
        }
        assert!(store.borrow().ledger().balances());
    });
}

#[test]
fn changed_targets_do_not_disturb_the_others() {
    on_ingest_thread(async {
        let (store, a, b) = (
            store(Limits::default()),
            Server::start(text("a 1\n")).await,
            Server::start(text("a 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        let statuses = scraper.statuses();
        scraper.set_targets(vec![target(&a, |_| {}), target(&b, |_| {})]);
        until(&statuses, &a.address, |status| status.health == Health::Up).await;
        until(&statuses, &b.address, |status| status.health == Health::Up).await;
        scraper.set_targets(vec![target(&b, |_| {})]);
        let series = scraped(&store).await;
        assert_eq!(
            (of(&series, &a, "a"), of(&series, &a, "up"), of(&series, &b, "a")),
            (None, None, Some("2"))
        );
        assert_eq!(statuses.targets().len(), 1);
        let before = until(&statuses, &b.address, |_| true).await.scrapes;
        until(&statuses, &b.address, |status| status.scrapes > before).await;
        assert_eq!(
            *b.connections.borrow(),
            1,
            "an unchanged target goes on undisturbed"
        );
        scraper.stop();
        assert_eq!(
            of(&scraped(&store).await, &b, "a"),
            Some("2"),
            "stopping leaves the series for the last export"
        );
    });
}
