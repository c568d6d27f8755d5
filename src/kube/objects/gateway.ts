import type {
  ClientCertificateDemand,
  Gateway,
  GatewayServer,
  ServerHost,
  ServerProtocol,
  ServerTls,
  TlsVersion,
} from '../../model/index.ts'
import { Field } from './field.ts'
import { parseHostPattern } from './host-pattern.ts'
import { parseCreation, parseIdentity } from './metadata.ts'
import { Notes } from './notes.ts'
import { parsePortNumber } from './port.ts'
import { parseReport } from './report.ts'

const protocols: Readonly<Record<string, ServerProtocol>> = {
  HTTP: 'http',
  HTTPS: 'https',
  HTTP2: 'http2',
  GRPC: 'grpc',
  'GRPC-WEB': 'http',
  TCP: 'tcp',
  TLS: 'tls',
}

/** A networking.istio.io Gateway. Servers that are wrong are left out with their problem; throws `ObjectParseError`. */
export function parseGateway(value: unknown): Gateway {
  const object = new Field(value)
  const notes = new Notes()
  const spec = object.at('spec')
  notes.checkKeys(spec, ['selector', 'servers'])
  const servers = notes.each(spec.at('servers').items(), (server) => parseServer(server, notes))
  return {
    ...parseIdentity(object),
    ...parseCreation(object),
    ...parseReport(object),
    selector: spec.at('selector').textMap(),
    servers,
    ignored: notes.ignored,
    problems: notes.problems,
  }
}

function parseServer(server: Field, notes: Notes): GatewayServer {
  notes.checkKeys(server, ['port', 'bind', 'hosts', 'tls', 'name', 'defaultEndpoint'])
  notes.ignore(server.at('defaultEndpoint'), 'has no effect; a gateway sends traffic to Services')
  const port = server.at('port')
  notes.checkKeys(port, ['number', 'protocol', 'name', 'targetPort'])
  notes.ignore(port.at('targetPort'), 'has no effect; the gateway listens on port.number')
  const protocol = parseServerProtocol(port.at('protocol'), server.at('tls'), notes)
  const bind = server.at('bind')
  const tls = parseServerTls(server.at('tls'), protocol, notes)
  const hosts = server.at('hosts').items().map(parseServerHost)
  if (hosts.length === 0) throw server.at('hosts').error('is missing; write ["*"] for every host')
  return {
    port: parsePortNumber(port.at('number')),
    protocol,
    ...(bind.text() === '' ? {} : { bind: bind.ip() }),
    hosts,
    ...(tls === undefined ? {} : { tls }),
  }
}

function parseServerProtocol(field: Field, tls: Field, notes: Notes): ServerProtocol {
  const text = field.text().toUpperCase()
  const protocol = Object.hasOwn(protocols, text) ? protocols[text] : undefined
  if (protocol === undefined) throw field.error(`must be one of ${Object.keys(protocols).join(', ')}`)
  if (text === 'GRPC-WEB') notes.ignored.push(`${field.where}: GRPC-WEB is served as HTTP; calls pass as they are`)
  const encrypted = protocol === 'http' ? 'https' : protocol === 'tcp' ? 'tls' : undefined
  const hasCertificate = tls.at('credentialName').text() !== '' && !tls.at('httpsRedirect').flag(false)
  if (encrypted === undefined || !hasCertificate) return protocol
  // The Go system's examples say so, and Istio allows no other meaning.
  notes.ignored.push(`${field.where}: is taken for ${encrypted.toUpperCase()}, because there is a certificate`)
  return encrypted
}

function parseServerHost(field: Field): ServerHost {
  const text = field.text()
  const slash = text.indexOf('/')
  const namespace = slash === -1 ? '*' : text.slice(0, slash)
  if (namespace !== '*' && namespace !== '.') new Field(namespace || undefined, field.path).dnsName()
  return { namespace, host: parseHostPattern(field, text.slice(slash + 1)) }
}

const tlsKeys = [
  'httpsRedirect',
  'mode',
  'credentialName',
  'minProtocolVersion',
  'maxProtocolVersion',
  'cipherSuites',
  'subjectAltNames',
]

function parseServerTls(field: Field, protocol: ServerProtocol, notes: Notes): ServerTls | undefined {
  const needsTls = protocol === 'https' || protocol === 'tls'
  if (field.isAbsent) {
    if (needsTls) throw field.error(`is missing, and port.protocol ${protocol.toUpperCase()} needs it`)
    return undefined
  }
  notes.checkKeys(field, tlsKeys)
  return needsTls ? parseEncryption(field, protocol) : parseTlsWithoutEncryption(field, protocol, notes)
}

/** `httpsRedirect` is all that `tls` can mean here; a certificate would make people believe in encryption. */
function parseTlsWithoutEncryption(field: Field, protocol: ServerProtocol, notes: Notes): ServerTls | undefined {
  const redirects = field.at('httpsRedirect').flag(false)
  const wantsCertificate = !field.at('credentialName').isAbsent || !field.at('mode').isAbsent
  const name = protocol.toUpperCase()
  if (wantsCertificate && !redirects)
    throw field.error(`must not be there with port.protocol ${name}; write HTTPS or TLS`)
  if (wantsCertificate)
    notes.ignored.push(`${field.where}: only httpsRedirect has an effect with port.protocol ${name}`)
  return redirects && protocol !== 'tcp' ? { mode: 'redirect' } : undefined
}

function parseEncryption(field: Field, protocol: ServerProtocol): ServerTls {
  const mode = field.at('mode')
  const hasCredential = field.at('credentialName').text() !== ''
  switch (mode.text() || (hasCredential ? 'by-secret' : 'PASSTHROUGH')) {
    case 'PASSTHROUGH':
      if (protocol === 'https' && mode.isAbsent) throw field.at('credentialName').error('is missing')
      return { mode: 'passthrough' }
    case 'SIMPLE':
      return parseTermination(field, 'none')
    case 'MUTUAL':
      return parseTermination(field, 'required')
    case 'OPTIONAL_MUTUAL':
      return parseTermination(field, 'optional')
    case 'by-secret':
      return parseTermination(field, 'as-secret')
    case 'AUTO_PASSTHROUGH':
      throw mode.error(
        'must not be AUTO_PASSTHROUGH, which needs names of Istio clusters; write PASSTHROUGH and tls routes',
      )
    case 'ISTIO_MUTUAL':
      throw mode.error('must not be ISTIO_MUTUAL, because there are no certificates of Istio here; write MUTUAL')
    default:
      throw mode.error('must be one of SIMPLE, MUTUAL, OPTIONAL_MUTUAL, PASSTHROUGH')
  }
}

function parseTermination(field: Field, clientCertificate: ClientCertificateDemand): ServerTls {
  const credential = field.at('credentialName')
  if (credential.text() === '') {
    throw credential.error('is missing; certificates are read from Secrets, never from files of the gateway')
  }
  const minVersion = parseTlsVersion(field.at('minProtocolVersion'), 'TLSv1.2')
  const maxVersion = parseTlsVersion(field.at('maxProtocolVersion'), 'TLSv1.3')
  if (minVersion > maxVersion) {
    throw field.at('minProtocolVersion').error(`must not be above maxProtocolVersion, which is ${maxVersion}`)
  }
  return {
    mode: 'terminate',
    credentialName: credential.dnsName(),
    clientCertificate,
    minVersion,
    maxVersion,
    cipherSuites: textsOf(field.at('cipherSuites')),
    subjectAltNames: textsOf(field.at('subjectAltNames')),
  }
}

const tlsVersions: Readonly<Record<string, TlsVersion>> = {
  TLSV1_0: 'TLSv1',
  TLSV1_1: 'TLSv1.1',
  TLSV1_2: 'TLSv1.2',
  TLSV1_3: 'TLSv1.3',
}

function parseTlsVersion(field: Field, whenAbsent: TlsVersion): TlsVersion {
  const text = field.text()
  if (text === '' || text === 'TLS_AUTO') return whenAbsent
  const version = Object.hasOwn(tlsVersions, text) ? tlsVersions[text] : undefined
  if (version === undefined) throw field.error(`must be one of TLS_AUTO, ${Object.keys(tlsVersions).join(', ')}`)
  return version
}

function textsOf(field: Field): string[] {
  return field.items().map((item) => item.text())
}
