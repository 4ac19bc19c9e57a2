//! Every entity and parameter of dialect 1, as data (`config.md` §6).

use super::entity::{Entity, Kind, Param, Section, Support};

use Kind::{AnyMap, Bool, CostMap, Float, Int, Maps, Text, Texts};
use Section::{Backends, Certificates, General, Resources, Services, Workers};
use Support::{Refused, Supported, Unavailable};

const fn entity(name: &'static str, section: Section, support: Support, about: &'static str) -> Entity {
    Entity::new(name, section, support, about)
}

const fn param(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param::new(name, kind, about)
}

const TLS_SERVER: Param = param("tls", Text, "Name of the TLS server config to use");
const TLS_CLIENT: Param = param("tls", Text, "Name of the TLS client config to use");
const BIND: Param = param("bindaddr", Text, "Local address to bind to").or("0.0.0.0");
const PORT: Param = param("port", Int, "Local port to listen on, 0 for any free one").required();
const COST: Param = param("cost", Float, "Cost of the connection, the same on both ends").or("1.0");
const NODE_COST: Param = param("nodecost", CostMap, "Costs for certain peers, instead of cost");
const ALLOWED: Param = param(
    "allowedpeers",
    Texts,
    "Node IDs that may connect; an empty list refuses everyone",
);
const PEER_ADDRESS: Param = param("address", Text, "Host and port of the listener")
    .required()
    .bare_value();
const REDIAL: Param = param("redial", Bool, "Connect again after a failure or a loss").or("true");
const REMOTE_NODE: Param = param("remotenode", Text, "Node to connect to").required();
const REMOTE_SERVICE: Param = param("remoteservice", Text, "Service to connect to").required();
const SERVICE: Param = param("service", Text, "Mesh service to listen on").required();
const ADDRESS: Param = param("address", Text, "Host and port to connect to").required();
const TLS_SIDE_SERVER: Param = param("tlsserver", Text, "Name of the TLS server config of the accepting side");
const TLS_SIDE_CLIENT: Param = param(
    "tlsclient",
    Text,
    "Name of the TLS client config of the connecting side",
);
const WORK_TYPE: Param = param("worktype", Text, "Name of the work type").required();
const VERIFY: Param = param("verifysignature", Bool, "Run only work with a valid signature").or("false");
const SKIP_NAMES: Param = param(
    "skipreceptornamescheck",
    Bool,
    "Do not look for the node ID in the own certificate",
)
.or("false");
const MIN_TLS_13: Param = param("mintls13", Bool, "Accept TLS 1.3 only").or("false");
const PERMISSIONS: Param = param("permissions", Int, "Mode of the socket file").or("0600");

/// The table.
pub static ENTITIES: &[Entity] = &[
    entity("node", General, Supported, "Identity and settings of the node")
        .required()
        .singleton()
        .with(&[
            param("id", Text, "Node ID; the host name by default").bare_value(),
            param("datadir", Text, "Directory of the node's data directory").or("/tmp/receptor"),
            param("firewallrules", Maps, "Firewall rules"),
            param(
                "maxidleconnectiontimeout",
                Text,
                "Close connections without traffic for longer, at least 21s",
            ),
            param("strict", Bool, "Refuse connections whose certificate names no node").or("false"),
            param(
                "receptorkubesupportreconnect",
                Text,
                "Without effect; use the environment",
            ),
            param("receptorkubeclientsetqps", Text, "Without effect; use the environment"),
            param(
                "receptorkubeclientsetburst",
                Text,
                "Without effect; use the environment",
            ),
            param(
                "receptorkubeclientsetratelimiter",
                Text,
                "Without effect; use the environment",
            ),
        ]),
    entity("local-only", General, Supported, "Run without a listener or a peer")
        .singleton()
        .with(&[param("local", Bool, "Without effect").or("false")]),
    entity("version", General, Supported, "Show the version").exclusive(),
    entity(
        "log-level",
        General,
        Supported,
        "How much is logged; info without this entity",
    )
    .singleton()
    .with(&[param("level", Text, "error, warning, info or debug")
        .or("error")
        .bare_value()]),
    entity("trace", General, Supported, "Log packets").singleton(),
    entity("tls-server", Resources, Supported, "TLS config of a server").with(&[
        param("name", Text, "Name to refer to").required(),
        param("cert", Text, "Certificate file").required(),
        param("key", Text, "Private key file").required(),
        param("requireclientcert", Bool, "Refuse clients without a certificate").or("false"),
        param("clientcas", Text, "CA bundle to verify client certificates"),
        param(
            "pinnedclientcert",
            Texts,
            "Fingerprints of the client certificates to accept",
        ),
        SKIP_NAMES,
        MIN_TLS_13,
    ]),
    entity("tls-client", Resources, Supported, "TLS config of a client").with(&[
        param("name", Text, "Name to refer to").required(),
        param("cert", Text, "Certificate file, or empty").required(),
        param("key", Text, "Private key file, or empty").required(),
        param("rootcas", Text, "CA bundle instead of the system's"),
        param("insecureskipverify", Bool, "Accept any certificate of the server").or("false"),
        param(
            "pinnedservercert",
            Texts,
            "Fingerprints of the server certificates to accept",
        ),
        SKIP_NAMES,
        MIN_TLS_13,
    ]),
    entity("tcp-listener", Backends, Supported, "Accept links over TCP").with(&[
        BIND,
        PORT.bare_value(),
        TLS_SERVER,
        COST,
        NODE_COST,
        ALLOWED,
    ]),
    entity("tcp-peer", Backends, Supported, "Make a link over TCP").with(&[
        PEER_ADDRESS,
        REDIAL,
        TLS_CLIENT,
        COST,
        ALLOWED,
    ]),
    entity("udp-listener", Backends, Supported, "Accept links over UDP").with(&[
        BIND,
        PORT.bare_value(),
        COST,
        NODE_COST,
        ALLOWED,
    ]),
    entity("udp-peer", Backends, Supported, "Make a link over UDP").with(&[PEER_ADDRESS, REDIAL, COST, ALLOWED]),
    entity("ws-listener", Backends, Supported, "Accept links over WebSocket").with(&[
        BIND,
        PORT.bare_value(),
        param("path", Text, "URI path; / matches every path").or("/"),
        TLS_SERVER,
        COST,
        NODE_COST,
        ALLOWED,
    ]),
    entity("ws-peer", Backends, Supported, "Make a link over WebSocket").with(&[
        param("address", Text, "URL of the listener, ws:// or wss://")
            .required()
            .bare_value(),
        REDIAL,
        TLS_CLIENT,
        param("extraheader", Text, "Header to send, NAME:VALUE"),
        COST,
        ALLOWED,
    ]),
    entity("control-service", Services, Supported, "Answer control commands").with(&[
        param("service", Text, "Mesh service to listen on; empty for none").or("control"),
        param("filename", Text, "Unix socket file to listen on"),
        PERMISSIONS,
        param("tls", Text, "Name of the TLS server config of the mesh listener"),
        param("tcplisten", Text, "PORT or HOST:PORT to listen on"),
        param("tcptls", Text, "Name of the TLS server config of the TCP listener"),
    ]),
    entity(
        "tcp-server",
        Services,
        Supported,
        "Listen on TCP, connect to a mesh service",
    )
    .with(&[
        PORT,
        BIND,
        REMOTE_NODE,
        REMOTE_SERVICE,
        TLS_SIDE_SERVER,
        TLS_SIDE_CLIENT,
    ]),
    entity(
        "tcp-client",
        Services,
        Supported,
        "Listen on a mesh service, connect to TCP",
    )
    .with(&[SERVICE, ADDRESS, TLS_SIDE_SERVER, TLS_SIDE_CLIENT]),
    entity(
        "udp-server",
        Services,
        Unavailable,
        "Listen on UDP, forward to a mesh service",
    )
    .with(&[PORT, BIND, REMOTE_NODE, REMOTE_SERVICE]),
    entity(
        "udp-client",
        Services,
        Unavailable,
        "Listen on a mesh service, forward to UDP",
    )
    .with(&[SERVICE, ADDRESS]),
    entity(
        "unix-socket-server",
        Services,
        Supported,
        "Listen on a Unix socket, connect to a mesh service",
    )
    .with(&[
        param("filename", Text, "Socket file to listen on").required(),
        PERMISSIONS,
        REMOTE_NODE,
        REMOTE_SERVICE,
        TLS_CLIENT,
    ]),
    entity(
        "unix-socket-client",
        Services,
        Supported,
        "Listen on a mesh service, connect to a Unix socket",
    )
    .with(&[
        SERVICE,
        param("filename", Text, "Socket file to connect to").required(),
        TLS_SERVER,
    ]),
    entity(
        "command-service",
        Services,
        Unavailable,
        "Run a command on a terminal for each mesh connection",
    )
    .with(&[SERVICE, param("command", Text, "Command to run").required(), TLS_SERVER]),
    entity("ip-router", Services, Unavailable, "Route IP packets through the mesh").with(&[
        param("networkname", Text, "Name of the network, a mesh service").required(),
        param("interface", Text, "Name of the network device"),
        param("localnet", Text, "IPv4 /30 network of the device").required(),
        param("routes", Text, "Networks to advertise, with commas between"),
    ]),
    entity("work-command", Workers, Supported, "Run a command per unit of work").with(&[
        WORK_TYPE,
        param("command", Text, "Program to run").required(),
        param("params", Text, "Its parameters"),
        param("allowruntimeparams", Bool, "Allow submitters to append parameters").or("false"),
        VERIFY,
    ]),
    entity(
        "work-python",
        Workers,
        Unavailable,
        "Run a Python function per unit of work",
    )
    .with(&[
        WORK_TYPE,
        param("plugin", Text, "Python module").required(),
        param("function", Text, "Function of the module").required(),
        param("config", AnyMap, "Configuration of the plugin"),
    ]),
    entity("work-kubernetes", Workers, Unavailable, "Run a pod per unit of work").with(&[
        WORK_TYPE,
        param("namespace", Text, "Namespace of the pods"),
        param("image", Text, "Container image"),
        param("command", Text, "Command in the container"),
        param("params", Text, "Parameters of the command"),
        param("authmethod", Text, "incluster, kubeconfig or runtime").or("incluster"),
        param("kubeconfig", Text, "Kubeconfig file"),
        param("pod", Text, "Pod specification file"),
        param("allowruntimeauth", Bool, "Allow submitters to give credentials").or("false"),
        param(
            "allowruntimecommand",
            Bool,
            "Allow submitters to give image and command",
        )
        .or("false"),
        param("allowruntimeparams", Bool, "Allow submitters to append parameters").or("false"),
        param("allowruntimepod", Bool, "Allow submitters to give a pod specification").or("false"),
        param(
            "deletepodonrestart",
            Bool,
            "Delete pods of unfinished units at a restart",
        )
        .or("true"),
        param("streammethod", Text, "logger or tcp").or("logger"),
        VERIFY,
    ]),
    entity(
        "work-signing",
        Workers,
        Supported,
        "Key that signs work submitted to other nodes",
    )
    .singleton()
    .with(&[
        param(
            "privatekey",
            Text,
            "Private key file, RSA in PEM form, read at each use",
        )
        .bare_value(),
        param(
            "tokenexpiration",
            Text,
            "How long a signature is valid; 5 minutes by default",
        ),
    ]),
    entity("work-verification", Workers, Supported, "Key that verifies signed work")
        .singleton()
        .with(&[
            param("publickey", Text, "Public key file, RSA in PEM form, read at each use").bare_value(),
            param(
                "leeway",
                Text,
                "How far the clock of a signing node may be off; 1 minute by default",
            ),
        ]),
    entity(
        "work-limits",
        Workers,
        Supported,
        "Limits of units of work; without one there is none",
    )
    .singleton()
    .with(&[
        param("maxunits", Int, "Units on this node, 100000 at most; more are refused").or("100000"),
        param(
            "maxrunning",
            Int,
            "Commands that run at a time; further units wait, first come first served",
        ),
        param("maxqueued", Int, "Units that may wait; more are refused"),
        param(
            "maxstdin",
            Text,
            "Size of a unit's stdin, such as 512M; one that sends more fails",
        ),
        param(
            "maxstdout",
            Text,
            "Size of a command's output; one that writes more is ended",
        ),
        param(
            "timelimit",
            Text,
            "How long a command may run; one that runs longer is ended",
        ),
        param(
            "stdintimeout",
            Text,
            "A unit that expects stdin and gets none for so long fails",
        ),
        param("expire", Text, "Units that ended so long ago are released"),
        param(
            "expireremote",
            Text,
            "The same for units that other nodes have submitted over work sessions and not released",
        ),
    ]),
    entity("cert-init", Certificates, Supported, "Make a certificate authority")
        .exclusive()
        .with(&[
            param("commonname", Text, "Common name of the certificate").required(),
            param("bits", Int, "Size of the RSA key; 0 means 2048").required(),
            param("notbefore", Text, "Start of validity, RFC 3339"),
            param("notafter", Text, "End of validity, RFC 3339"),
            param("outcert", Text, "Certificate file to write").required(),
            param("outkey", Text, "Private key file to write").required(),
        ]),
    entity("cert-makereq", Certificates, Supported, "Make a certificate request")
        .exclusive()
        .with(&[
            param("commonname", Text, "Common name of the certificate").required(),
            param("bits", Int, "Size of the new RSA key"),
            param("dnsname", Texts, "DNS names"),
            param("ipaddress", Texts, "IP addresses"),
            param("nodeid", Texts, "Node IDs"),
            param("outreq", Text, "Request file to write").required(),
            param("inkey", Text, "Existing private key file"),
            param("outkey", Text, "Private key file to write"),
        ]),
    entity("cert-signreq", Certificates, Supported, "Sign a certificate request")
        .exclusive()
        .with(&[
            param("req", Text, "Request file").required(),
            param("cacert", Text, "Certificate file of the authority").required(),
            param("cakey", Text, "Private key file of the authority").required(),
            param("notbefore", Text, "Start of validity, RFC 3339"),
            param("notafter", Text, "End of validity, RFC 3339"),
            param("outcert", Text, "Certificate file to write").required(),
            param("verify", Bool, "Sign without asking").or("false"),
        ]),
    entity("command-runner", Workers, Refused, "Run one unit of work")
        .hidden()
        .with(&[
            param("command", Text, "Program to run").required(),
            param("params", Text, "Its parameters").required(),
            param("unitdir", Text, "Directory of the unit").required(),
        ]),
];
