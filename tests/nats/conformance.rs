//! The suite that every bus passes, on one server and on three.

mod one_server {
    use upcall_tests::nats::NatsServer;

    use crate::harness::{NatsHarness, Servers};

    upcall_bus::conformance_tests!(async || NatsHarness::new(Servers::One(NatsServer::start())).await);
    upcall_bus::archive_conformance_tests!(async || NatsHarness::new(Servers::One(NatsServer::start())).await);
}

mod three_servers {
    use upcall_tests::nats::NatsCluster;

    use crate::harness::{NatsHarness, Servers};

    upcall_bus::conformance_tests!(async || NatsHarness::new(Servers::Three(NatsCluster::start(3))).await);
    upcall_bus::archive_conformance_tests!(async || NatsHarness::new(Servers::Three(NatsCluster::start(3))).await);
}
