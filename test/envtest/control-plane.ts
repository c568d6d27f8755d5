import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Host, LabProcess } from '../lab/index.ts'
import { findBinaries } from './binaries.ts'
import { type CertificateFiles, createSigningKey, createTestAuthority, type TestAuthority } from './certificates.ts'
import { type Send, sendFrom, sendHere } from './transport.ts'

/** Where a control plane runs. */
export interface ControlPlaneOptions {
  /** A host of a lab, on whose address the API server listens; default: here, on loopback. */
  readonly host?: Host
  /** Runs the controllers that make Endpoints, EndpointSlices and service account tokens. */
  readonly controllers?: boolean
}

/** A user that the API server knows. */
export interface ApiUser {
  readonly name: string
  readonly token: string
  readonly groups: readonly string[]
}

/** May do everything. */
export const admin: ApiUser = { name: 'admin', token: 'admin-token-of-the-test', groups: ['system:masters'] }
/** May do nothing until a role says so. */
export const agentUser: ApiUser = { name: 'edgemesh', token: 'agent-token-of-the-test', groups: ['edgemesh'] }

interface SecretList {
  readonly items: readonly {
    readonly metadata: { readonly annotations?: Readonly<Record<string, string>> }
    readonly data?: Readonly<Record<string, string>>
  }[]
}

const readyWithinMs = 60_000
const apiPort = 6443

/** A real etcd, kube-apiserver and, when asked for, kube-controller-manager. */
export class ControlPlane implements AsyncDisposable {
  readonly url: string
  readonly authority: TestAuthority
  readonly directory: string
  readonly #start: (argv: readonly string[]) => LabProcess
  readonly #send: Send
  readonly #apiServerCommand: readonly string[]
  #apiServer: LabProcess
  readonly #others: LabProcess[]

  private constructor(options: {
    readonly url: string
    readonly authority: TestAuthority
    readonly directory: string
    readonly start: (argv: readonly string[]) => LabProcess
    readonly send: Send
    readonly apiServerCommand: readonly string[]
    readonly etcd: LabProcess
  }) {
    this.url = options.url
    this.authority = options.authority
    this.directory = options.directory
    this.#start = options.start
    this.#send = options.send
    this.#apiServerCommand = options.apiServerCommand
    this.#apiServer = options.start(options.apiServerCommand)
    this.#others = [options.etcd]
  }

  /** Starts everything and waits until the API answers. */
  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    const { host, controllers = false } = options
    const address = host?.address ?? '127.0.0.1'
    const start = host === undefined ? startHere : (argv: readonly string[]) => host.spawn(argv)
    const send = host === undefined ? sendHere : sendFrom(host)
    const binaries = await findBinaries()
    const directory = await mkdtemp(join(tmpdir(), 'envtest-'))
    const authority = await createTestAuthority(directory, 'cluster')
    const serving = await authority.issue('kube-apiserver', { addresses: [address] })
    await createSigningKey(join(directory, 'service-accounts.key'))
    await writeTokens(directory, [admin, agentUser])
    const etcd = start(etcdCommand(binaries.etcd, join(directory, 'etcd')))
    const apiServerCommand = [binaries.apiServer, ...apiServerFlags(directory, address, authority.ca, serving)]
    const url = `https://${address}:${apiPort}`
    const plane = new ControlPlane({ url, authority, directory, start, send, apiServerCommand, etcd })
    try {
      await plane.ready()
      if (controllers) await plane.#startControllers(binaries.controllerManager)
      return plane
    } catch (error) {
      await plane[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Waits until the API server says that it is ready. */
  async ready(): Promise<void> {
    const giveUpAt = performance.now() + readyWithinMs
    for (;;) {
      const failure = await this.call('GET', '/readyz').catch((error: unknown) => error)
      if (!(failure instanceof Error)) return
      if (performance.now() > giveUpAt || this.#apiServer.exit !== undefined) {
        throw new Error(`The API server is not ready: ${this.#apiServer.output().slice(-4000)}`, { cause: failure })
      }
      await delay(100)
    }
  }

  /** Calls the API; rejects for an answer that is no success. */
  async call(method: string, path: string, body?: unknown, user: ApiUser = admin): Promise<unknown> {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
    const headers = { authorization: `Bearer ${user.token}`, 'content-type': type }
    return await this.#request(method, `${this.url}${path}`, headers, body)
  }

  /** Ends the API server at once, as a power cut does; etcd keeps its data. */
  async killApiServer(): Promise<void> {
    await this.#apiServer.stop('SIGKILL')
  }

  /** Stops or resumes the API server where it stands, as a machine does that has no memory left. */
  signalApiServer(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#apiServer.kill(signal)
  }

  /** Gives the agent's user another token, which the API server knows from its next start on. */
  async changeAgentToken(token: string): Promise<void> {
    await writeTokens(this.directory, [admin, { ...agentUser, token }])
  }

  /** Starts the API server again. */
  async restartApiServer(): Promise<void> {
    this.#apiServer = this.#start(this.#apiServerCommand)
    await this.ready()
  }

  /** Makes etcd forget everything but the present, so that watches from before are too old. */
  async compactEtcd(): Promise<void> {
    const post = (path: string, body: object) => this.#request('POST', `http://127.0.0.1:2379${path}`, {}, body)
    const range = await post('/v3/kv/range', { key: btoa('/'), limit: '1' })
    const revision: unknown = Reflect.get(Object(Reflect.get(Object(range), 'header')), 'revision')
    await post('/v3/kv/compaction', { revision, physical: true })
  }

  /** The token that the controllers have made for a service account. */
  async serviceAccountToken(namespace: string, name: string): Promise<string> {
    for (let turn = 0; turn < 100; turn++) {
      const secrets = (await this.call('GET', `/api/v1/namespaces/${namespace}/secrets`)) as SecretList
      const secret = secrets.items.find(
        ({ metadata }) => metadata.annotations?.['kubernetes.io/service-account.name'] === name,
      )
      if (secret?.data?.['token'] !== undefined) return Buffer.from(secret.data['token'], 'base64').toString('utf8')
      await delay(100)
    }
    throw new Error(`the controllers make no token for ${namespace}/${name}`)
  }

  /** Writes a kubeconfig whose user is described by these fields; gives its path. */
  async writeKubeconfig(name: string, user: Readonly<Record<string, unknown>>): Promise<string> {
    const file = join(this.directory, `${name}.kubeconfig`)
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: this.url, 'certificate-authority': this.authority.ca } }],
      users: [{ name, user }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: name } }],
      'current-context': 'test',
    }
    await writeFile(file, JSON.stringify(config))
    return file
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of [this.#apiServer, ...this.#others.reverse()]) await running.stop('SIGKILL')
    await rm(this.directory, { recursive: true, force: true })
  }

  async #request(
    method: string,
    url: string,
    headers: Readonly<Record<string, string>>,
    body: unknown,
  ): Promise<unknown> {
    const caFile = this.authority.ca
    const ca = await readFile(caFile, 'utf8')
    const content = body === undefined ? undefined : JSON.stringify(body)
    const { status, text } = await this.#send({ method, url, headers, body: content, caFile, ca })
    if (status < 200 || status > 299) throw new Error(`${method} ${url}: ${status} ${text}`)
    return text.startsWith('{') ? JSON.parse(text) : text
  }

  async #startControllers(binary: string): Promise<void> {
    const kubeconfig = await this.writeKubeconfig('controllers', { token: admin.token })
    const flags = {
      kubeconfig,
      controllers: 'endpoint,endpointslice,serviceaccount,namespace,serviceaccount-token',
      'service-account-private-key-file': join(this.directory, 'service-accounts.key'),
      'root-ca-file': this.authority.ca,
      'leader-elect': 'false',
      port: '0',
    }
    this.#others.push(this.#start([binary, ...flagsOf(flags)]))
  }
}

function startHere(argv: readonly string[]): LabProcess {
  const [command = '', ...rest] = argv
  const child: ChildProcess = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
  return new LabProcess(command, child)
}

async function writeTokens(directory: string, users: readonly ApiUser[]): Promise<void> {
  await writeFile(join(directory, 'tokens.csv'), users.map(tokenLine).join(''))
}

function tokenLine({ name, token, groups }: ApiUser): string {
  return `${token},${name},${name},"${groups.join(',')}"\n`
}

function etcdCommand(binary: string, directory: string): string[] {
  const client = 'http://127.0.0.1:2379'
  const peer = 'http://127.0.0.1:2380'
  const flags = {
    'data-dir': directory,
    'unsafe-no-fsync': 'true',
    'listen-client-urls': client,
    'advertise-client-urls': client,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `default=${peer}`,
  }
  return [binary, ...flagsOf(flags)]
}

function apiServerFlags(directory: string, address: string, ca: string, serving: CertificateFiles): string[] {
  const serviceAccounts = join(directory, 'service-accounts.key')
  return flagsOf({
    'etcd-servers': 'http://127.0.0.1:2379',
    'bind-address': address,
    // What Pods would dial; loopback is refused as an endpoint.
    'advertise-address': address.startsWith('127.') ? '192.0.2.10' : address,
    'secure-port': String(apiPort),
    'cert-dir': join(directory, 'serving'),
    'tls-cert-file': serving.cert,
    'tls-private-key-file': serving.key,
    'client-ca-file': ca,
    'token-auth-file': join(directory, 'tokens.csv'),
    'authorization-mode': 'RBAC',
    'service-cluster-ip-range': '10.96.0.0/16',
    'service-account-issuer': 'https://kubernetes.default.svc',
    'service-account-signing-key-file': serviceAccounts,
    'service-account-key-file': serviceAccounts,
    'disable-admission-plugins': 'ServiceAccount',
    'allow-privileged': 'true',
    // Kinds that another server holds are asked for at its endpoints, because nobody here serves ClusterIPs to it.
    'enable-aggregator-routing': 'true',
  })
}

function flagsOf(flags: Readonly<Record<string, string>>): string[] {
  return Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
}
