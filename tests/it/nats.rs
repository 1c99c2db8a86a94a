//! The NATS servers that tests stand on: they really are what the tests take them for.

use upcall_tests::http::wait_until;
use upcall_tests::nats::{self, NatsCluster, NatsOptions, NatsServer};

#[test]
fn a_nats_server_comes_back_with_its_ports_and_store() {
    if nats::is_missing("a NATS server that comes back") {
        return;
    }
    let options = NatsOptions { jetstream: "sync_interval: always".into(), ..NatsOptions::default() };
    let server = NatsServer::start_with(&options);
    // `/varz` lacks it for good if it is asked before JetStream is there.
    let jetstream = server.monitor("/jsz").unwrap()["config"].clone();
    assert_eq!(jetstream["sync_always"], true, "{jetstream}");
    assert!(jetstream["store_dir"].as_str().unwrap().starts_with(server.store_dir().to_str().unwrap()), "{jetstream}");
    let start = |server: &NatsServer| server.monitor("/varz").unwrap()["start"].clone();
    let (url, started) = (server.url(), start(&server));
    server.kill();
    assert!(!server.is_ready());
    server.restart();
    assert_eq!(server.url(), url);
    assert_ne!(start(&server), started);
}

#[test]
fn a_halted_nats_server_takes_connections_and_answers_nothing() {
    if nats::is_missing("a halted NATS server") {
        return;
    }
    let server = NatsServer::start();
    server.stop();
    let stream = std::net::TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let silent = std::io::Read::read(&mut &stream, &mut [0; 1]).unwrap_err();
    assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock);
    server.cont();
    wait_until("the server goes on", || server.is_ready());
}

#[test]
fn a_nats_cluster_loses_a_server_and_all_of_them_and_comes_back() {
    if nats::is_missing("a NATS cluster") {
        return;
    }
    let cluster = NatsCluster::start(3);
    let size = |server: &NatsServer| server.monitor("/jsz").map(|jsz| jsz["meta_cluster"]["cluster_size"].clone());
    for server in cluster.servers() {
        assert_eq!(size(server).unwrap(), 3);
    }
    cluster.servers()[1].kill();
    wait_until("the others go on without it", || cluster.servers()[0].is_ready() && cluster.servers()[2].is_ready());
    cluster.servers()[1].restart();
    cluster.restart();
    assert!(cluster.servers().iter().all(NatsServer::is_ready));
}
