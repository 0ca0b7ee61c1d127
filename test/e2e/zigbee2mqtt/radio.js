// Runs Zigbee2MQTT with a radio that is not there: the adapter of zigbee-herdsman is replaced by two devices, a lamp
// and a sensor of temperature, which answer as their firmware does. All above the radio is the real one.
//
// Standard input, a line each:
//   join                                     both devices join the network
//   report DEVICE CLUSTER ATTRIBUTE NUMBER   an attribute changes, and the device says so
//   unplug DEVICE, plug DEVICE               requests get no answer, or do again
//
// Standard output has, among the log of Zigbee2MQTT, "radio: DEVICE CLUSTER.COMMAND PAYLOAD" for each command to a device.

const readline = require("node:readline");
const {Adapter} = require("zigbee-herdsman/dist/adapter");
const {Zcl, Zdo} = require("zigbee-herdsman");

const HA_PROFILE = 0x0104;

const devices = {
    lamp: {
        ieee: "0x00158d0000000001",
        network: 0x1001,
        manufacturerCode: 0x1166,
        logicalType: 1, // router
        deviceId: 0x0101,
        clusters: ["genBasic", "genIdentify", "genGroups", "genScenes", "genOnOff", "genLevelCtrl"],
        attributes: {
            genBasic: {zclVersion: 3, modelId: "RB 165", manufacturerName: "innr", powerSource: 1},
            genOnOff: {onOff: 0, startUpOnOff: 255},
            genLevelCtrl: {currentLevel: 10},
        },
    },
    sensor: {
        ieee: "0x00158d0000000002",
        network: 0x1002,
        manufacturerCode: 0x1286,
        logicalType: 2, // end device
        deviceId: 0x0302,
        clusters: ["genBasic", "genPowerCfg", "genIdentify", "msTemperatureMeasurement", "msRelativeHumidity"],
        attributes: {
            genBasic: {zclVersion: 3, modelId: "TH01", manufacturerName: "eWeLink", powerSource: 3},
            genPowerCfg: {batteryVoltage: 30, batteryPercentageRemaining: 194},
            msTemperatureMeasurement: {measuredValue: 2100},
            msRelativeHumidity: {measuredValue: 4472},
        },
    },
};

const coordinator = {ieee: "0x00158d00000000ff", network: 0, manufacturerCode: 0x1037, logicalType: 0, deviceId: 5, clusters: []};

const level = (device, {level}) => {
    device.attributes.genLevelCtrl.currentLevel = level;
    return {genLevelCtrl: ["currentLevel"]};
};
const onOff = (device, on) => {
    device.attributes.genOnOff.onOff = on;
    return {genOnOff: ["onOff"]};
};

/** What commands do, and which attributes the device reports then. */
const commands = {
    "genOnOff.on": (d) => onOff(d, 1),
    "genOnOff.off": (d) => onOff(d, 0),
    "genOnOff.toggle": (d) => onOff(d, 1 - d.attributes.genOnOff.onOff),
    "genLevelCtrl.moveToLevel": level,
    "genLevelCtrl.moveToLevelWithOnOff": (d, payload) => ({...level(d, payload), ...onOff(d, payload.level > 0 ? 1 : 0)}),
};

class Radio extends Adapter {
    sequence = 0;

    async start() {
        readline.createInterface({input: process.stdin}).on("line", (line) => this.told(line.split(" ")));
        return "resumed";
    }
    async stop() {}
    async getCoordinatorIEEE() {
        return coordinator.ieee;
    }
    async getCoordinatorVersion() {
        return {type: "none", meta: {}};
    }
    async getNetworkParameters() {
        return {panID: this.networkOptions.panID, extendedPanID: "0xdddddddddddddddd", channel: this.networkOptions.channelList[0], nwkUpdateID: 0};
    }
    async supportsBackup() {
        return false;
    }
    async permitJoin() {}
    async sendZclFrameToGroup() {}
    async sendZclFrameToAll() {}

    told([verb, name, cluster, attribute, value]) {
        const device = devices[name];
        switch (verb) {
            case "join":
                for (const {ieee, network} of Object.values(devices)) {
                    this.emit("deviceJoined", {networkAddress: network, ieeeAddr: ieee});
                }
                break;
            case "report":
                device.attributes[cluster][attribute] = Number(value);
                this.report(device, {[cluster]: [attribute]});
                break;
            case "plug":
            case "unplug":
                device.unplugged = verb === "unplug";
                break;
            default:
                throw new Error(`radio: ${verb} is not known`);
        }
    }

    async sendZdo(ieee, _network, cluster) {
        const device = [coordinator, ...Object.values(devices)].find((d) => d.ieee === ieee);
        if (device === undefined || device.unplugged) {
            throw new Error("no answer");
        }
        switch (cluster) {
            case Zdo.ClusterId.NODE_DESCRIPTOR_REQUEST:
                return [Zdo.Status.SUCCESS, {...device, nwkAddress: device.network, serverMask: {stackComplianceRevision: 22}}];
            case Zdo.ClusterId.ACTIVE_ENDPOINTS_REQUEST:
                return [Zdo.Status.SUCCESS, {nwkAddress: device.network, endpointList: [1]}];
            case Zdo.ClusterId.SIMPLE_DESCRIPTOR_REQUEST:
                return [
                    Zdo.Status.SUCCESS,
                    {
                        nwkAddress: device.network,
                        endpoint: 1,
                        profileId: HA_PROFILE,
                        deviceId: device.deviceId,
                        inClusterList: device.clusters.map((name) => Zcl.Clusters[name].ID),
                        outClusterList: [],
                    },
                ];
            default: // binds
                return [Zdo.Status.SUCCESS, undefined];
        }
    }

    async sendZclFrameToEndpoint(ieee, _network, endpoint, frame) {
        const device = Object.values(devices).find((d) => d.ieee === ieee);
        if (device === undefined || device.unplugged) {
            throw new Error("no answer");
        }
        const answer = frame.header.isGlobal ? this.foundation(device, frame) : this.command(device, frame);
        return this.receive(device, endpoint, frame.cluster, frame.header.transactionSequenceNumber, ...answer);
    }

    /** Answers what is the same in all clusters: the name and the payload of the answer. */
    foundation(device, {cluster, command, payload}) {
        switch (command.name) {
            case "read":
                return ["readRsp", payload.map(({attrId}) => this.attribute(device, cluster, attrId))];
            case "configReport":
                return ["configReportRsp", [{status: Zcl.Status.SUCCESS}]];
            case "write":
                return ["writeRsp", [{status: Zcl.Status.SUCCESS}]];
            default:
                return ["defaultRsp", {cmdId: command.ID, statusCode: Zcl.Status.UNSUP_COMMAND}];
        }
    }

    attribute(device, cluster, attrId) {
        const known = Object.values(cluster.attributes).find((a) => a.ID === attrId);
        const attrData = device.attributes[cluster.name]?.[known?.name];
        if (attrData === undefined) {
            return {attrId, status: Zcl.Status.UNSUPPORTED_ATTRIBUTE};
        }
        return {attrId, status: Zcl.Status.SUCCESS, dataType: known.type, attrData};
    }

    command(device, {cluster, command, payload}) {
        const name = Object.keys(devices).find((key) => devices[key] === device);
        const key = `${cluster.name}.${command.name}`;
        console.log(`radio: ${name} ${key} ${JSON.stringify(payload)}`);
        const act = commands[key];
        if (act === undefined) {
            return ["defaultRsp", {cmdId: command.ID, statusCode: Zcl.Status.UNSUP_COMMAND}];
        }
        const changed = act(device, payload);
        setImmediate(() => this.report(device, changed));
        return ["defaultRsp", {cmdId: command.ID, statusCode: Zcl.Status.SUCCESS}];
    }

    /** Has the device report attributes: their names by cluster. */
    report(device, changed) {
        for (const [name, attributes] of Object.entries(changed)) {
            const cluster = Zcl.Clusters[name];
            const payload = attributes.map((attribute) => ({
                attrId: cluster.attributes[attribute].ID,
                dataType: cluster.attributes[attribute].type,
                attrData: device.attributes[name][attribute],
            }));
            this.sequence = (this.sequence + 1) % 256;
            this.receive(device, 1, {...cluster, name}, this.sequence, "report", payload);
        }
    }

    /** Has a frame of the device arrive. */
    receive(device, endpoint, cluster, sequence, command, payload) {
        const direction = Zcl.Direction.SERVER_TO_CLIENT;
        const data = Zcl.Frame.create(Zcl.FrameType.GLOBAL, direction, true, undefined, sequence, command, cluster, payload, {}).toBuffer();
        const frame = {
            clusterID: cluster.ID,
            header: Zcl.Header.fromBuffer(data),
            address: device.network,
            data,
            endpoint,
            linkquality: 120,
            groupID: 0,
            wasBroadcast: false,
            destinationEndpoint: 1,
        };
        this.emit("zclPayload", frame);
        return frame;
    }
}

Adapter.create = async (...options) => new Radio(...options);
require("zigbee2mqtt").start();
