// dcmjs-dimse as a client and as a server, told what to do line by line.
//
//   node peer.js MODULES
//
// Each line of standard input is a JSON object with "do" (a name of `deeds`) and what that needs;
// each is answered by one line of JSON on standard output, in the order of the questions. What goes
// wrong is told as {"error": "..."}, never by ending. MODULES is the folder of the packages.

'use strict';

const { createHash } = require('crypto');
const { createRequire } = require('module');
const { readFileSync } = require('fs');
const path = require('path');
const readline = require('readline');

const from = createRequire(path.join(path.resolve(process.argv[2]), 'peer.js'));
const dimse = from('dcmjs-dimse');
const { Client, Dataset, Implementation, Scp, Server, constants, requests, responses } = dimse;
const { PresentationContext } = dimse.association;
const { PresentationContextResult, SopClass, Status } = constants;
dimse.log.setLevel('silent');

const PATIENT_ROOT_FIND = '1.2.840.10008.5.1.4.1.2.1.1';
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');

// What dcmjs makes of a data set is what it sends: the digest of each, by its SOP Instance UID.
const sent = {};
const encode = Dataset.prototype.getDenaturalizedDataset;
Dataset.prototype.getDenaturalizedDataset = function (...options) {
  const bytes = this.raw ? this.raw.bytes : encode.apply(this, options);
  const uid = this.getElement('SOPInstanceUID');
  if (uid) sent[uid] = { sha256: digest(bytes), syntax: this.getTransferSyntaxUid(), bytes: bytes.length };
  return bytes;
};

/** A data set of which only the UIDs are known: it is sent as it stands in its file. */
function asItStands({ file, uid, sopClass, syntax, offset }) {
  const dataset = new Dataset({ SOPClassUID: sopClass, SOPInstanceUID: uid }, syntax);
  dataset.raw = { bytes: readFileSync(file).subarray(offset), syntax };
  return dataset;
}

// The length that both sides of this process announce. dcmjs-dimse takes 0 for "not set".
let pduBytes = 0;
const announced = Implementation.getMaxPduLength.bind(Implementation);
Implementation.getMaxPduLength = () => (pduBytes === null ? 0 : pduBytes || announced());

function tls(options) {
  if (!options) return undefined;
  const read = (name) => (options[name] ? readFileSync(options[name]) : undefined);
  return {
    key: read('key'), cert: read('certificate'), ca: read('ca'), requestCert: Boolean(options.ask),
    rejectUnauthorized: true, minVersion: 'TLSv1.2', maxVersion: options.newest || 'TLSv1.3',
  };
}

/** Send requests on one association and say everything that came of it. */
function converse(asked, list, handlers = {}) {
  return new Promise((resolve) => {
    const told = { answers: [], datasets: [], events: [] };
    const client = new Client();
    for (const request of list) {
      request.on('response', (response) => {
        told.answers.push(answerOf(response));
        if (response.hasDataset() && response.getDataset()) told.datasets.push(response.getDataset().getElements());
        if (handlers.response) handlers.response(client, request, response);
      });
      client.addRequest(request);
    }
    for (const { abstract, syntaxes, provider, anew } of asked.contexts || []) {
      const context = new PresentationContext(0, abstract);
      syntaxes.forEach((each) => context.addTransferSyntaxUid(each));
      if (provider) context.setProviderRole(true);
      client.addAdditionalPresentationContext(context, Boolean(anew));
    }
    client.on('associationAccepted', (association) => {
      told.accepted = association.getPresentationContexts().map(({ id }) => {
        const found = association.getPresentationContext(id);
        return [id, found.getAbstractSyntaxUid(), found.getResult(), found.getAcceptedTransferSyntaxUid()];
      });
      told.pduBytes = association.getMaxPduLength();
      told.window = [association.getMaxAsyncOpsInvoked(), association.getMaxAsyncOpsPerformed()];
      if (handlers.accepted) handlers.accepted(client);
    });
    client.on('associationRejected', (reason) => told.events.push(['rejected', reason]));
    client.on('associationReleased', () => told.events.push(['released']));
    client.on('networkError', (error) => told.events.push(['network', error.message]));
    client.on('cStoreRequest', (request, callback) => callback(taken(told, request, asked.status)));
    client.on('closed', () => resolve(told));
    pduBytes = asked.pduBytes === undefined ? 0 : asked.pduBytes || null;
    client.send(asked.host || '127.0.0.1', asked.port, asked.calling || 'NODE', asked.called || 'ECLUSE', {
      asyncOps: asked.window && { maxAsyncOpsInvoked: asked.window[0], maxAsyncOpsPerformed: asked.window[1] },
      userIdentity: asked.identity && {
        type: 2, positiveResponseRequested: true, primaryField: asked.identity[0], secondaryField: asked.identity[1],
      },
      securityOptions: tls(asked.tls), associationLingerTimeout: asked.linger || 0,
      pduTimeout: asked.seconds ? asked.seconds * 1000 : undefined,
    });
  });
}

function answerOf(response) {
  const told = { status: response.getStatus(), comment: response.getErrorComment() };
  for (const name of ['Remaining', 'Completed', 'Failures', 'Warnings']) {
    if (response[`get${name}`] !== undefined) told[name.toLowerCase()] = response[`get${name}`]();
  }
  return told;
}

/** Note an object that came by C-STORE, and answer it. */
function taken(told, request, status) {
  const raw = request.getDataset().raw;
  const command = request.getCommandDataset().getElements();
  const object = { uid: request.getAffectedSopInstanceUid(), originator: command.MoveOriginatorApplicationEntityTitle };
  if (raw) Object.assign(object, { sha256: digest(raw.bytes), syntax: raw.syntax, bytes: raw.bytes.length });
  (told.objects = told.objects || []).push(object);
  const response = responses.CStoreResponse.fromRequest(request);
  response.setStatus(status === undefined ? Status.Success : status);
  return response;
}

// What came is kept as it came: dcmjs would make something else of it.
// (Scp and the network behind Client inherit this method from the same class.)
Object.getPrototypeOf(Scp).prototype.createDatasetFromStoreWritableStream = (stream, context, callback) => {
  const syntax = context.getAcceptedTransferSyntaxUid();
  const dataset = new Dataset({}, syntax);
  dataset.raw = { bytes: stream.toBuffer(), syntax };
  callback(dataset);
};

const servers = {};

/** One association of a server that takes what `asked` names and keeps what comes in `came`. */
class Peer extends Scp {
  constructor(socket, options) {
    super(socket, options);
    Object.assign(this, options.said);
  }
  associationRequested(association) {
    this.came.associations.push({
      calling: association.getCallingAeTitle(), contexts: association.getPresentationContexts().length,
    });
    if (this.asked.reject) {
      this.sendAssociationReject(...this.asked.reject);
      return;
    }
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      const offered = context.getTransferSyntaxUids();
      const syntax = (this.asked.syntaxes || offered).find((each) => offered.includes(each));
      if (syntax) context.setResult(PresentationContextResult.Accept, syntax);
      else context.setResult(PresentationContextResult.RejectTransferSyntaxesNotSupported);
    }
    if (this.asked.pduBytes !== undefined) association.setMaxPduLength(this.asked.pduBytes);
    this.sendAssociationAccept();
  }
  cEchoRequest(request, callback) {
    const response = responses.CEchoResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }
  cStoreRequest(request, callback) {
    const status = this.statuses.length ? this.statuses.shift() : Status.Success;
    if (status === 'abort') this.sendAbort();
    else callback(taken(this.came, request, status));
  }
  cFindRequest(request, callback) {
    const answers = (this.asked.found || []).map((elements) => {
      const pending = responses.CFindResponse.fromRequest(request);
      pending.setDataset(new Dataset(elements));
      pending.setStatus(Status.Pending);
      return pending;
    });
    const last = responses.CFindResponse.fromRequest(request);
    last.setStatus(Status.Success);
    callback([...answers, last]);
  }
  nActionRequest(request, callback) {
    this.came.actions = [...(this.came.actions || []), request.getDataset().getElements()];
    const response = responses.NActionResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
    if (this.asked.promptly) this.report(request.getDataset());
  }
  /** What is committed, on the association on which it was asked. */
  report(dataset) {
    const { TransactionUID, ReferencedSOPSequence } = dataset.getElements();
    const told = { TransactionUID, ReferencedSOPSequence };
    const request = plain('NEventReportRequest', told, SopClass.StorageCommitmentPushModel, COMMITMENT, 1);
    request.on('response', (response) => this.came.reported.push(response.getStatus()));
    this.sendRequests(request);
  }
  nEventReportRequest(request, callback) {
    this.came.reports.push({ type: request.getEventTypeId(), elements: request.getDataset().getElements() });
    const response = responses.NEventReportResponse.fromRequest(request);
    response.setStatus(Status.Success);
    callback(response);
  }
  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

/** A server at a port, for as long as nobody closes it. */
function serving(asked) {
  const came = { objects: [], reports: [], reported: [], associations: [], errors: [] };
  const said = { asked, came, statuses: [...(asked.statuses || [])] };
  const server = new Server(Peer);
  server.on('networkError', (error) => came.errors.push(error.message));
  server.listen(asked.port, { securityOptions: tls(asked.tls), said });
  servers[asked.port] = { server, came };
  return { listening: asked.port };
}

function finding(asked) {
  const make = {
    study: requests.CFindRequest.createStudyFindRequest,
    series: requests.CFindRequest.createSeriesFindRequest,
    image: requests.CFindRequest.createImageFindRequest,
    worklist: requests.CFindRequest.createWorklistFindRequest,
  }[asked.level];
  const request = make ? make(asked.keys || {}) : new requests.CFindRequest();
  if (!make) request.setDataset(new Dataset({ ...asked.keys }));
  else if (asked.only) request.setDataset(new Dataset({ ...asked.keys }));
  if (asked.root === 'patient') request.setAffectedSopClassUid(PATIENT_ROOT_FIND);
  return request;
}

const referring = (each) => ({ ReferencedSOPClassUID: each[0], ReferencedSOPInstanceUID: each[1] });

function plain(kind, dataset, ...how) {
  const request = new requests[kind](...how);
  request.setDataset(new Dataset(dataset));
  return request;
}

const COMMITMENT = '1.2.840.10008.1.20.1.1';
const deeds = {
  echo: (asked) => converse(asked, Array.from({ length: asked.times || 1 }, () => new requests.CEchoRequest())),
  // A second request on an association that has been idle for a second, before its release.
  idle: (asked) => converse({ ...asked, linger: 2_000 }, [new requests.CEchoRequest()], {
    response: (client, request) => {
      if (client.asked) return;
      client.asked = true;
      const second = new requests.CEchoRequest();
      second.on('response', (response) => request.raiseResponseEvent(response));
      setTimeout(() => client.network.sendRequests(second), 1_000);
    },
  }),
  store(asked) {
    const list = asked.files.map((file) => {
      const request = new requests.CStoreRequest(typeof file === 'string' ? file : asItStands(file));
      if (asked.syntaxes) request.setAdditionalTransferSyntaxes(asked.syntaxes);
      return request;
    });
    const wanted = list.map((each) => each.getAffectedSopInstanceUid());
    return converse(asked, list).then((told) => ({ ...told, sent: wanted.map((uid) => ({ uid, ...sent[uid] })) }));
  },
  find: (asked) => converse(asked, [finding(asked)]),
  cancelled: (asked) => converse(asked, [finding(asked)], {
    response: (client, request, response) => response.getStatus() === Status.Pending && client.cancel(request),
  }),
  aborted: (asked) => converse(asked, [finding(asked)], { accepted: (client) => client.abort(0, 0) }),
  move: (asked) => converse(asked, [requests.CMoveRequest.createStudyMoveRequest(asked.to, asked.study)]),
  get(asked) {
    const request = requests.CGetRequest.createStudyGetRequest(asked.study);
    if (asked.contexts) request.setAddStorageSopClassesToAssociation(false);
    return converse(asked, [request]);
  },
  mpps: (asked) => converse(asked, [
    plain('NCreateRequest', asked.create, SopClass.ModalityPerformedProcedureStep, asked.uid),
    plain('NSetRequest', asked.set, SopClass.ModalityPerformedProcedureStep, asked.uid),
  ]),
  commit: (asked) => converse(asked, [
    plain('NActionRequest', {
      TransactionUID: asked.transaction, ReferencedSOPSequence: asked.objects.map(referring),
    }, SopClass.StorageCommitmentPushModel, COMMITMENT, 1),
  ]),
  // The result of a commitment request, from the association's requestor.
  report: (asked) => converse(asked, [
    plain('NEventReportRequest', {
      TransactionUID: asked.transaction, ReferencedSOPSequence: asked.objects.map(referring),
    }, SopClass.StorageCommitmentPushModel, COMMITMENT, 1),
  ]),
  serve: async (asked) => serving(asked),
  came: async (asked) => servers[asked.port].came,
  close: async (asked) => {
    servers[asked.port].server.close();
    delete servers[asked.port];
    return {};
  },
};

async function main() {
  process.on('uncaughtException', (error) => console.log(JSON.stringify({ error: `${error.stack}` })));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    let told;
    try {
      told = await deeds[asked.do](asked);
    } catch (error) {
      told = { error: error.stack };
    }
    console.log(JSON.stringify(told));
  }
}

main();
