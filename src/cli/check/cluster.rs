//! Whether the names of other nodes lead anywhere.

use std::net::ToSocketAddrs;

use super::report::Report;
use crate::config::Config;

/// Looks each name up.
pub(super) fn names(report: &mut Report, config: &Config) {
    let names = config.cluster_members.iter().chain(&config.cluster_dns);
    for peer in names {
        let port = peer.port.unwrap_or(config.cluster_port);
        let tried = report.timing("node");
        match (peer.host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
                tried.ok(&format!("{peer}: {}", addresses.join(", ")));
            }
            Err(error) => tried.warning(
                &format!("{peer} does not resolve: {error}"),
                "weir goes on asking; mend CLUSTER_MEMBERS or CLUSTER_DNS if it never will",
            ),
        }
    }
    if config.cluster_secret.is_none() {
        report.trying("CLUSTER_SECRET").warning(
            "whoever reaches CLUSTER_PORT can join the cluster",
            "set the same one at all nodes",
        );
    }
}
