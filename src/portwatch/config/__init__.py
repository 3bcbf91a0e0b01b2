"""The configuration: a TOML file, overridden by the environment, as one frozen typed value.

`load` reads it, or is a `ConfigurationError` that names the file or variable, the key, the value and what
would be right. The keys, their defaults and their meanings stand once, in `config.keys`.
"""

from portwatch.config.forms import DatapathType as DatapathType
from portwatch.config.forms import Details as Details
from portwatch.config.forms import LogFormat as LogFormat
from portwatch.config.forms import LogLevel as LogLevel
from portwatch.config.forms import Loop as Loop
from portwatch.config.forms import UnknownUnicast as UnknownUnicast
from portwatch.config.keys import Bridges as Bridges
from portwatch.config.keys import Bus as Bus
from portwatch.config.keys import Config as Config
from portwatch.config.keys import Http as Http
from portwatch.config.keys import Log as Log
from portwatch.config.keys import OpenFlow as OpenFlow
from portwatch.config.keys import Ovsdb as Ovsdb
from portwatch.config.keys import Peers as Peers
from portwatch.config.keys import Ports as Ports
from portwatch.config.keys import Row as Row
from portwatch.config.keys import Tunnel as Tunnel
from portwatch.config.keys import reference as reference
from portwatch.config.loading import DEFAULT_PATH as DEFAULT_PATH
from portwatch.config.loading import FileUnusable as FileUnusable
from portwatch.config.loading import Loaded as Loaded
from portwatch.config.loading import absent_files as absent_files
from portwatch.config.loading import effective as effective
from portwatch.config.loading import load as load
from portwatch.config.loading import problems as problems
from portwatch.config.places import BridgeName as BridgeName
from portwatch.config.places import BusUrl as BusUrl
from portwatch.config.places import Listen as Listen
from portwatch.config.places import MemoryBus as MemoryBus
from portwatch.config.places import MqttBrokers as MqttBrokers
from portwatch.config.places import MqttBus as MqttBus
from portwatch.config.places import MqttSocketBus as MqttSocketBus
from portwatch.config.places import OvsdbRemote as OvsdbRemote
from portwatch.config.places import OvsdbSocket as OvsdbSocket
from portwatch.config.places import OvsdbTcp as OvsdbTcp
from portwatch.config.places import TopicPrefix as TopicPrefix
