//! Several servers that are one cluster.

use super::{FreePorts, NatsOptions, NatsServer, PortTaken, STARTS_MAX};

/// A cluster of NATS servers with JetStream. They are killed when this is dropped.
pub struct NatsCluster {
    servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts a cluster, and waits until it has a leader and JetStream answers on every server.
    ///
    /// # Panics
    /// If it does not start within the tests' patience.
    pub fn start(size: usize) -> Self {
        Self::start_with(size, &NatsOptions::default())
    }

    /// Starts a cluster whose servers all differ from the default in the same way.
    /// With a `store_dir`, each server has a folder in it: `0`, `1`, ….
    ///
    /// # Panics
    /// As [`NatsCluster::start`].
    pub fn start_with(size: usize, options: &NatsOptions) -> Self {
        for _ in 0..STARTS_MAX {
            let cluster = Self::launch_new(size, options);
            if cluster.wait_until_ready().is_ok() {
                return cluster;
            }
        }
        panic!("the servers found their ports taken {STARTS_MAX} times");
    }

    /// The servers, in a fixed order.
    pub fn servers(&self) -> &[NatsServer] {
        &self.servers
    }

    /// The URL of every server.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// Kills every server that runs (SIGKILL).
    pub fn kill(&self) {
        self.servers.iter().for_each(NatsServer::kill);
    }

    /// Kills every server that runs, starts all of them with their ports and stores, and waits until JetStream answers.
    ///
    /// # Panics
    /// If it does not within the tests' patience.
    pub fn restart(&self) {
        self.kill();
        self.servers.iter().for_each(NatsServer::launch);
        self.wait_until_ready().unwrap_or_else(|PortTaken| panic!("a port of the cluster was taken meanwhile"));
    }

    /// Waits until every server is ready, and all agree on a leader.
    ///
    /// # Errors
    /// If a server ended because one of its ports is taken.
    ///
    /// # Panics
    /// If it takes longer than the tests' patience.
    pub fn wait_until_ready(&self) -> Result<(), PortTaken> {
        self.servers.iter().try_for_each(NatsServer::wait_until_ready)
    }

    fn launch_new(size: usize, options: &NatsOptions) -> Self {
        let ports: Vec<FreePorts> = (0..size).map(|_| FreePorts::new(3)).collect();
        let routes: Vec<String> = ports.iter().map(|ports| format!("\"nats://{}\"", ports.address(2))).collect();
        let routes = routes.join(", ");
        let launch = |(index, ports): (usize, &FreePorts)| {
            let listen = ports.address(2);
            let more = &options.cluster;
            let cluster =
                format!("cluster {{\nname: \"upcall-test\"\nlisten: \"{listen}\"\nroutes: [{routes}]\n{more}\n}}");
            let store_dir = options.store_dir.as_ref().map(|folder| folder.join(index.to_string()));
            NatsServer::launch_new(&NatsOptions { store_dir, ..options.clone() }, ports, Some(&cluster))
        };
        Self { servers: ports.iter().enumerate().map(launch).collect() }
    }
}
