//! The `status` answer, gathered.

use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use crate::control::{AdvertisementView, ConnectionView, StatusView, WorkCommandView};
use crate::time::Now;

impl Node {
    /// `fields` are the members wanted by name, if any: what costs something is gathered for these only.
    pub(super) fn status(&self, now: Now, fields: Option<&[String]>) -> StatusView {
        let wants = |name: &str| fields.is_some_and(|fields| fields.iter().any(|field| field == name));
        let own_types: Vec<_> = self
            .work
            .advertised_types()
            .map(|(name, secure)| WorkCommandView {
                work_type: name.into(),
                secure,
            })
            .collect();
        let advertisements = self
            .net
            .router
            .adverts(now)
            .into_iter()
            .map(|advert| AdvertisementView {
                node_id: advert.node,
                service: advert.service,
                time: advert.time,
                conn_type: advert.conn_type,
                tags: advert.tags,
                // Every own advertisement shows the work types, remote ones what they brought (`control.md` §4).
                work_commands: if advert.own {
                    Some(own_types.clone()).filter(|types| !types.is_empty())
                } else {
                    advert.work_commands.map(|types| {
                        let view = |t: crate::wire::classic::WorkCommand| WorkCommandView {
                            work_type: t.work_type,
                            secure: t.secure,
                        };
                        types.into_iter().map(view).collect()
                    })
                },
            });
        StatusView {
            version: self.config.version.clone(),
            system_cpu_count: self.config.cpu_count,
            system_memory_mib: self.config.memory_mib,
            node_id: self.config.node_id.clone(),
            connections: self
                .net
                .router()
                .connections()
                .into_iter()
                .map(|(_, node_id, cost)| ConnectionView { node_id, cost })
                .collect(),
            routing_table: self.net.router.routing_table(),
            advertisements: advertisements.collect(),
            known_connection_costs: self.net.router.known_costs(),
            work_limits: wants("WorkLimits").then(|| self.work.limits_view()),
            work_units: wants("WorkUnits").then(|| self.work.units_view()),
        }
    }
}

/// The whole answer as one line of JSON.
pub(super) fn to_json(view: &StatusView) -> String {
    // Maps with keys other than text cannot be written; there are none.
    serde_json::to_string(&view.members(None)).unwrap_or_default()
}
