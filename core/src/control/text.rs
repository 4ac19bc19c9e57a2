//! Literal texts of the control protocol, in the order of `control.md`. Clients match on them: change none.

/// Longest command line in bytes, without its line feed and carriage returns; a submission carries its parameters in it.
/// The classic service has no limit; a longer line is answered by an error and ends the session.
pub const LINE_MAX: usize = 4 * 1024 * 1024;

/// Start of the greeting, before the node ID (§2).
pub const GREETING: &str = "Receptor Control, node ";
/// Start of every error line (§2.3).
pub const ERROR: &str = "ERROR: ";
/// Unknown command, before its name (`differences-1.5.5.md` §4).
pub const UNKNOWN_COMMAND: &str = "Unknown command, ";
/// JSON without `command` (§2.3).
pub const JSON_WITHOUT_COMMAND: &str = "JSON did not contain a command";
/// JSON with a `command` of another type (§2.3).
pub const COMMAND_NOT_STRING: &str = "command must be a string";

/// The members of a status answer (§4).
pub const STATUS_MEMBERS: [&str; 8] = [
    "Advertisements",
    "Connections",
    "KnownConnectionCosts",
    "NodeID",
    "RoutingTable",
    "SystemCPUCount",
    "SystemMemoryMiB",
    "Version",
];
/// §4.
pub const STATUS_TAKES_NO_PARAMETERS: &str = "status command does not take parameters";
/// §4; our text, the classic node crashes here.
pub const REQUESTED_FIELDS_NOT_LIST: &str = "requested_fields must be a list of strings";
/// §4.
pub const REQUESTED_FIELD_NOT_STRING: &str = "each element of requested_fields must be a string";

/// §5.1.
pub const NO_PING_TARGET: &str = "no ping target";
/// §5.1.
pub const PING_TARGET_NOT_STRING: &str = "ping target must be string";
/// §5.2.
pub const NO_TRACEROUTE_TARGET: &str = "no traceroute target";
/// §5.2.
pub const TRACEROUTE_TARGET_NOT_STRING: &str = "traceroute target must be string";

/// §5.3.
pub const NO_CONNECT_TARGET: &str = "no connect target";
/// §5.3.
pub const CONNECT_TOO_MANY: &str = "too many parameters";
/// §5.3.
pub const NO_CONNECT_NODE: &str = "no connect target node";
/// §5.3.
pub const CONNECT_NODE_NOT_STRING: &str = "connect target node must be string";
/// §5.3.
pub const NO_CONNECT_SERVICE: &str = "no connect target service";
/// §5.3.
pub const CONNECT_SERVICE_NOT_STRING: &str = "connect target service must be string";
/// §5.3.
pub const CONNECT_TLS_NOT_STRING: &str = "connect tls name must be string";
/// The whole line that announces a bridged connection (§5.3).
pub const CONNECTING: &str = "Connecting";

/// Before the number that ends the error of a failed reload (§5.4).
pub const ERROR_CODE: &str = " ERRORCODE ";

/// Missing or unknown subcommand of `work` (§3).
pub const BAD_COMMAND: &str = "bad command";
/// §6.1.
pub const SUBMIT_REQUIRES: &str = "work submit requires a target node and work type";
/// Around the unit ID, the invitation to send stdin (§6.1).
pub const UNIT_CREATED: [&str; 2] = ["Work unit created with ID ", ". Send stdin data and EOF."];
/// `result` of a submission that started (§6.1).
pub const JOB_STARTED: &str = "Job Started";
/// `result` of a submission that is retried in the background (§6.1).
pub const JOB_SUBMITTED: &str = "Job Submitted";
/// The member of a cancel answer (§6.4).
pub const CANCELLED: &str = "cancelled";
/// The same, when it is retried in the background.
pub const CANCEL_PENDING: &str = "cancel pending";
/// The member of a release answer (§6.4).
pub const RELEASED: &str = "released";
/// The same, when it is retried in the background.
pub const RELEASE_PENDING: &str = "release pending";
/// Ours: the text form of `work adopt`.
pub const ADOPT_TAKES: &str = "work adopt takes a node and a unit ID";
/// `result` of an adoption.
pub const ADOPTED: &str = "Adopted";
/// The same, when the unit was followed before.
pub const ALREADY_ADOPTED: &str = "Already Adopted";
/// §6.5.
pub const RESULTS_REQUIRES: &str = "work results requires a unit ID";
/// §6.5.
pub const RESULTS_TAKES: &str = "work results only takes a unit ID and optional start position";
/// Before the parser's message (§6.5).
pub const START_NOT_INTEGER: &str = "error converting start position to integer: ";
/// Before the unit ID, the header of raw results (§6.5).
pub const STREAMING_RESULTS: &str = "Streaming results for work unit ";
