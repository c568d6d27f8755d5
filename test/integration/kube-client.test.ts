/** How an API is spoken to: TLS, credentials that change, and servers that keep their clients waiting. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { createCachedAccess, type LoadConnection } from '../../src/kube/api/access/access.ts'
import { ApiClient, type RequestTimeouts } from '../../src/kube/api/api-client.ts'
import { ApiStatusError, ApiTimeoutError } from '../../src/kube/api/errors.ts'
import { TokenBucket } from '../../src/kube/api/token-bucket.ts'
import { describeError, silentLogger } from '../../src/observability/index.ts'
import { createTestAuthority, type TestAuthority } from '../envtest/index.ts'
import { ApiDouble, type DoubleRequest } from './support/api-double.ts'
import { paths, serviceObject, sliceObject } from './support/api-objects.ts'
import { followDouble, until } from './support/api-source.ts'

const patient: RequestTimeouts = { connectMs: 5_000, answerMs: 5_000, idleMs: 5_000, totalMs: 10_000 }
const noLimit = { qps: 1_000_000, burst: 1_000_000 }

function createClient(load: LoadConnection): ApiClient {
  const access = createCachedAccess(load, silentLogger)
  return new ApiClient({ access, rate: new TokenBucket(noLimit), userAgent: 'edgemesh/test' })
}

function clientOf(url: string, rest: object = {}): ApiClient {
  return createClient(async () => ({ url: new URL(url), headers: {}, tls: {}, ...rest }))
}

async function read(client: ApiClient, path: string, timeouts = patient, signal = new AbortController().signal) {
  const chunks: Buffer[] = []
  for await (const chunk of client.get({ path, query: { limit: '5' }, timeouts }, signal)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

/** A server with a script of its own. */
async function serve(listener: RequestListener) {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    server,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

let folder = ''
let authority: TestAuthority
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kube-client-'))
  authority = await createTestAuthority(folder, 'cluster')
})
after(() => rm(folder, { recursive: true }))

async function startTlsDouble(addresses = ['127.0.0.1']): Promise<ApiDouble> {
  const { cert, key } = await authority.issue('server', { addresses })
  const [certText, keyText, clientCa] = await Promise.all(
    [cert, key, authority.ca].map((file) => readFile(file, 'utf8')),
  )
  const tls = { cert: String(certText), key: String(keyText), clientCa: String(clientCa) }
  const double = new ApiDouble({ served: [paths.services, paths.nodes, paths.slicesV1], tls })
  double.put(paths.services, serviceObject('web'))
  double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
  return await double.start()
}

suite('by https', () => {
  test('the server must have a certificate of the CA, for its address', async () => {
    const ca = await readFile(authority.ca, 'utf8')
    await using double = await startTlsDouble()
    using right = clientOf(double.url, { tls: { ca } })
    assert.match(await read(right, paths.services), /"name":"web"/)
    using noCa = clientOf(double.url)
    await assert.rejects(read(noCa, paths.services), (error) => /certificate/.test(describeError(error)))
    using unchecked = clientOf(double.url, { tls: { rejectUnauthorized: false } })
    assert.match(await read(unchecked, paths.services), /"name":"web"/)
    await using elsewhere = await startTlsDouble(['192.0.2.1'])
    using wrongName = clientOf(elsewhere.url, { tls: { ca } })
    await assert.rejects(read(wrongName, paths.services), (error) => /altnames|IP: 127/i.test(describeError(error)))
  })

  test('the client shows its certificate, and a new one as soon as there is one', async () => {
    await using double = await startTlsDouble()
    const [ca, first, second] = [authority.ca, await authority.issue('one'), await authority.issue('two')]
    let current = first
    const load: LoadConnection = async () => {
      const [caText, cert, key] = await Promise.all(
        [ca, current.cert, current.key].map((file) => readFile(file, 'utf8')),
      )
      return {
        url: new URL(double.url),
        headers: {},
        tls: { ca: String(caText), cert: String(cert), key: String(key) },
      }
    }
    // Credentials are read for each request, as if each were a minute later.
    let now = 0
    const access = createCachedAccess(load, silentLogger, () => (now += 60_000))
    using client = new ApiClient({ access, rate: new TokenBucket(noLimit), userAgent: 'x' })
    await read(client, paths.services)
    current = second
    await read(client, paths.services)
    assert.deepEqual(
      double.requests.map(({ clientName }) => clientName),
      ['one', 'two'],
    )
  })
})

suite('credentials that are refused', () => {
  /** Lets only this token in. */
  async function startGuarded() {
    const double = await startTlsDouble()
    const guarded = { double, token: 'first' }
    double.fault = ({ headers }) =>
      headers.authorization === `Bearer ${guarded.token}` ? undefined : { kind: 'status', status: 401 }
    return guarded
  }

  test('are read anew at once: a token that is replaced on disk is used without a pause', async () => {
    const guarded = await startGuarded()
    await using double = guarded.double
    const tokenFile = join(folder, 'token')
    await writeFile(tokenFile, 'first')
    const kubeconfig = join(folder, 'token.kubeconfig')
    const cluster = { server: double.url, 'certificate-authority': authority.ca }
    const config = {
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: { tokenFile } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }
    await writeFile(kubeconfig, JSON.stringify(config))
    await using site = await followDouble({ config: () => ({ kubeConfig: kubeconfig }) })
    await site.synced()
    assert.equal(site.source.status().origin, 'kubeconfig')
    assert.equal(site.source.status().url, double.url)
    await until(() => double.watches(paths.services) === 1)
    guarded.token = 'second'
    double.endWatches(paths.services, 'by reset')
    await until(
      () => site.resource('services')?.lastError?.includes('401') === true,
      () => site.resource('services'),
    )
    await writeFile(tokenFile, 'second')
    double.put(paths.services, serviceObject('api', '10.96.0.2'))
    await until(
      () => site.services().length === 2,
      () => site.resource('services'),
    )
    assert.deepEqual(site.services(), ['api 10.96.0.2', 'web 10.96.0.1'])
  })

  test('in a Pod are those of the service account', async () => {
    const guarded = await startGuarded()
    await using double = guarded.double
    const serviceAccount = await mkdtemp(join(folder, 'pod-'))
    await writeFile(join(serviceAccount, 'token'), 'first\n')
    await writeFile(join(serviceAccount, 'ca.crt'), await readFile(authority.ca))
    const port = new URL(double.url).port
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: port }
    const config = () => ({ metaServer: { server: 'http://127.0.0.1:1' } })
    await using site = await followDouble({ config, source: { env, serviceAccount } })
    await site.synced()
    assert.equal(site.source.status().origin, 'in-cluster')
    assert.match(site.source.status().reason, /^KUBERNETES_SERVICE_HOST names .*; metaServer: .*ECONNREFUSED/)
    assert.deepEqual(site.services(), ['web 10.96.0.1'])
  })

  test('by metaServer say what to set, and metaServer is used once that is right', async () => {
    const guarded = await startGuarded()
    await using double = guarded.double
    const serviceAccount = await mkdtemp(join(folder, 'pod-'))
    const security = { requireAuthorization: true, tlsCaFile: authority.ca }
    const config = () => ({ metaServer: { server: double.url.replace('https:', 'http:'), security } })
    await using site = await followDouble({ config, source: { serviceAccount } })
    await until(() => site.source.status().reason.includes('kubeAPIConfig.metaServer.security'))
    await writeFile(join(serviceAccount, 'token'), 'first')
    await site.synced()
    assert.equal(site.source.status().origin, 'metaServer')
  })
})

test('metaServer that asks for both gets the token and the certificate with every request', async () => {
  await using double = await startTlsDouble()
  const isRight = ({ headers, clientName }: DoubleRequest) =>
    headers.authorization === 'Bearer of the node' && clientName === 'edge-a1'
  double.fault = (request) => (isRight(request) ? undefined : { kind: 'status', status: 401 })
  const serviceAccount = await mkdtemp(join(folder, 'both-'))
  await writeFile(join(serviceAccount, 'token'), 'of the node')
  const { cert, key } = await authority.issue('edge-a1')
  const files = { tlsCaFile: authority.ca, tlsCertFile: cert, tlsPrivateKeyFile: key }
  const config = (security: object) => () => ({
    metaServer: { server: double.url, security: { requireAuthorization: true, ...security } },
  })
  await using site = await followDouble({ config: config(files), source: { serviceAccount } })
  await site.synced()
  assert.equal(site.source.status().origin, 'metaServer')
  assert.deepEqual(site.services(), ['web 10.96.0.1'])
  await until(() => double.watches(paths.services) === 1)
  double.put(paths.services, serviceObject('api', '10.96.0.2'))
  await until(() => site.services().length === 2)
  assert.ok(double.requests.every(isRight))
  const tokenAlone = config({ tlsCaFile: authority.ca })
  await using refused = await followDouble({ config: tokenAlone, source: { serviceAccount } })
  await until(() => refused.source.status().reason.includes('401'))
  assert.ok(!refused.catalog.isSynced)
})

test('a credential plugin is run for a source, and again once the API refuses what it gave', async () => {
  await using double = await startTlsDouble()
  let token = 'first'
  double.fault = ({ headers }) =>
    headers.authorization === `Bearer ${token}` ? undefined : { kind: 'status', status: 401 }
  const given = join(folder, 'given')
  const apiVersion = 'client.authentication.k8s.io/v1'
  const giveToken = (value: string) =>
    writeFile(given, JSON.stringify({ apiVersion, kind: 'ExecCredential', status: { token: value } }))
  await giveToken('first')
  const kubeconfig = join(folder, 'exec.kubeconfig')
  const exec = { apiVersion, command: 'cat', args: [given], interactiveMode: 'Never' }
  const config = {
    clusters: [{ name: 'c', cluster: { server: double.url, 'certificate-authority': authority.ca } }],
    users: [{ name: 'u', user: { exec } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  }
  await writeFile(kubeconfig, JSON.stringify(config))
  await using site = await followDouble({ config: () => ({ kubeConfig: kubeconfig }) })
  await site.synced()
  await until(() => double.watches(paths.services) === 1)
  token = 'second'
  await giveToken('second')
  double.endWatches(paths.services, 'by reset')
  double.put(paths.services, serviceObject('api', '10.96.0.2'))
  await until(
    () => site.services().length === 2,
    () => site.resource('services'),
  )
})

suite('a server that keeps its client waiting', () => {
  const impatient: RequestTimeouts = { connectMs: 2_000, answerMs: 100, idleMs: 100, totalMs: 400 }

  test('is left when it does not answer', async () => {
    await using slow = await serve(() => {})
    using client = clientOf(slow.url)
    await assert.rejects(read(client, '/x', impatient), (error) => {
      assert.ok(error instanceof ApiTimeoutError)
      assert.match(error.message, /^GET \/x: the answer took over 0.1 s$/)
      return true
    })
  })

  test('is left when it goes silent in the middle, or trickles for ever', async () => {
    await using slow = await serve(({ url }, response) => {
      response.write('{')
      if (url?.startsWith('/trickle') === true) {
        const timer = setInterval(() => response.write(' '), 20)
        response.on('close', () => clearInterval(timer))
      }
    })
    using client = clientOf(slow.url)
    await assert.rejects(read(client, '/silent', impatient), /the next bytes took over 0.1 s/)
    await assert.rejects(read(client, '/trickle', impatient), /GET \/trickle took over 0.4 s/)
  })

  test('is left when its credentials never come', async () => {
    using client = createClient(() => new Promise(() => {}))
    await assert.rejects(read(client, '/x', impatient), ApiTimeoutError)
  })

  test('is left when the caller has had enough, with the reason of the caller', async () => {
    await using slow = await serve((_request, response) => response.write('{'))
    using client = clientOf(slow.url)
    const controller = new AbortController()
    const reading = read(client, '/x', patient, controller.signal)
    setTimeout(() => controller.abort(new Error('enough')), 50)
    await assert.rejects(reading, /^Error: enough$/)
  })
})

suite('an answer', () => {
  test('that is an error says what the server says, and how long to wait', async () => {
    await using server = await serve((_request, response) => {
      const status = { kind: 'Status', message: 'services is forbidden: User "x" cannot list resource' }
      response.writeHead(403, { 'retry-after': '7' }).end(JSON.stringify(status))
    })
    using client = clientOf(server.url)
    await assert.rejects(read(client, '/api/v1/services'), (error) => {
      assert.ok(error instanceof ApiStatusError)
      assert.equal(
        error.message,
        'Cannot get /api/v1/services: 403 services is forbidden: User "x" cannot list resource',
      )
      assert.deepEqual([error.status, error.retryAfterMs, error.isNotServed], [403, 7000, true])
      return true
    })
  })

  test('that is an error of somebody else is shortened', async () => {
    await using server = await serve((_request, response) => response.writeHead(502).end('x'.repeat(100_000)))
    using client = clientOf(server.url)
    await assert.rejects(read(client, '/x'), (error) => error instanceof ApiStatusError && error.message.length < 300)
  })

  test('comes over a kept connection, and a new one when the server has closed it', async () => {
    let connections = 0
    await using server = await serve((_request, response) => response.end('[]'))
    server.server.on('connection', () => {
      connections += 1
    })
    using client = clientOf(server.url)
    await read(client, '/x')
    await read(client, '/x')
    assert.equal(connections, 1)
    server.server.closeIdleConnections()
    assert.equal(await read(client, '/x'), '[]')
    assert.equal(connections, 2)
  })

  test('is asked for below the path of the server, as proxies of clusters want it', async () => {
    const seen: string[] = []
    await using server = await serve(({ url, headers }, response) => {
      seen.push(`${url} ${headers.accept} ${headers['user-agent']} ${headers.authorization}`)
      response.end('[]')
    })
    using client = clientOf(`${server.url}/k8s/clusters/c-1/`, { headers: { authorization: 'Bearer t' } })
    await read(client, '/api/v1/services')
    assert.deepEqual(seen, ['/k8s/clusters/c-1/api/v1/services?limit=5 application/json edgemesh/test Bearer t'])
  })
})
