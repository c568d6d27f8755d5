/**
 * What `edgemesh manifests` prints, manifests/ and examples/, against a real API server.
 *
 *     etcd ── kube-apiserver (RBAC) ◄── admin: applies
 *                                   ◄── the account edgemesh-agent: reads, with its own token
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import process from 'node:process'
import { after, before, suite, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createCatalog } from '../../src/catalog/index.ts'
import { agentKinds } from '../../src/commands/metadata-source.ts'
import { parseConfig } from '../../src/config/index.ts'
import { type ApiStatus, startApiSource } from '../../src/kube/index.ts'
import { createMetrics, silentLogger } from '../../src/observability/index.ts'
import {
  type ApiUser,
  ControlPlane,
  collectionOf,
  createObject,
  deleteObjects,
  isWithoutEnvtest,
  type KubeObject,
  pathOf,
  readObjects,
} from '../envtest/index.ts'
import { eventually } from './support/site.ts'

const root = new URL('../../', import.meta.url)
const needed = ['--server', 'mesh.example.org:20004', '--image', 'registry.example.org/edgemesh:1.0']
const rolePath = '/apis/rbac.authorization.k8s.io/v1/clusterroles/edgemesh-agent'
const accountPath = '/api/v1/namespaces/kubeedge/serviceaccounts/edgemesh-agent'

/** Of the resources that are not in the core group. */
const groups: Readonly<Record<string, string>> = {
  endpointslices: 'discovery.k8s.io',
  destinationrules: 'networking.istio.io',
}

async function printManifests(...options: readonly string[]): Promise<KubeObject[]> {
  const main = fileURLToPath(new URL('src/main.ts', root))
  const { stdout } = await promisify(execFile)(process.execPath, [main, 'manifests', ...options])
  return readObjects(stdout)
}

/** Tries until it holds. */
async function soon(attempt: () => Promise<void> | void): Promise<void> {
  await eventually(20_000, async () => await attempt())
}

function oneOf(kind: string, objects: readonly KubeObject[]): KubeObject {
  const [object, ...others] = objects.filter((candidate) => candidate.kind === kind)
  assert.ok(object !== undefined && others.length === 0)
  return object
}

if (!isWithoutEnvtest()) {
  let plane: ControlPlane
  let agent: ApiUser
  let printed: readonly KubeObject[]

  before(async () => {
    plane = await ControlPlane.start()
    printed = await printManifests(...needed)
  })
  after(async () => await plane?.[Symbol.asyncDispose]())

  suite('edgemesh manifests', () => {
    test('prints objects that the API server takes as they are, in their order', async () => {
      assert.ok(printed.length >= 10)
      for (const object of printed) await createObject(plane, object)
    })

    test('prints configurations that the program takes back from the API', async () => {
      for (const role of ['agent', 'server'] as const) {
        const object = printed.find(({ metadata }) => metadata.name === `edgemesh-${role}-cfg`)
        assert.ok(object)
        const stored = (await plane.call('GET', pathOf(object))) as { readonly data: Record<string, string> }
        const file = `edgemesh-${role}.yaml`
        const { notices } = parseConfig(role, stored.data[file] ?? '', file, { NODE_NAME: 'edge-a1' })
        assert.deepEqual(notices, [])
      }
    })

    test('makes a key that another one does not replace by mistake', async () => {
      const secret = oneOf('Secret', await printManifests(...needed))
      await assert.rejects(plane.call('PATCH', pathOf(secret), secret), /422.*immutable/)
    })

    test('cannot be applied from the repository by mistake: the placeholder of the key is refused', async () => {
      for (const role of ['agent', 'gateway', 'server']) {
        const objects = readObjects(readFileSync(new URL(`manifests/edgemesh-${role}.yaml`, root), 'utf8'))
        const placeholder = oneOf('Secret', objects)
        const elsewhere = { ...placeholder, metadata: { name: `placeholder-${role}`, namespace: 'kubeedge' } }
        await assert.rejects(plane.call('POST', collectionOf(elsewhere), elsewhere), /400.*illegal base64/)
      }
    })
  })

  suite('the account of the gateway', () => {
    const shopSecrets = '/api/v1/namespaces/shop/secrets'
    const named = (name: string) => `${shopSecrets}?fieldSelector=metadata.name%3D${name}`
    let gateway: ApiUser
    before(async () => {
      await plane.call('POST', '/api/v1/namespaces', { metadata: { name: 'shop' } })
      const options = ['--role', 'gateway', '--keep-psk', '--gateway-secrets', 'shop/web-tls']
      for (const object of await printManifests(...needed, ...options)) await createObject(plane, object)
      const path = '/api/v1/namespaces/kubeedge/serviceaccounts/edgemesh-gateway/token'
      const answer = (await plane.call('POST', path, { spec: {} })) as { status: { token: string } }
      gateway = { name: 'edgemesh-gateway', token: answer.status.token, groups: [] }
      await soon(async () => void (await plane.call('GET', named('web-tls'), undefined, gateway)))
    })

    test('may list and watch what the gateway reads, in all namespaces', async () => {
      for (const plural of ['services', 'endpoints', 'nodes', 'pods']) {
        await plane.call('GET', `/api/v1/${plural}`, undefined, gateway)
        await plane.call('GET', `/api/v1/${plural}?watch=true&timeoutSeconds=1`, undefined, gateway)
      }
      for (const resource of ['destinationrules', 'gateways', 'virtualservices']) {
        for (const verb of ['list', 'watch']) {
          const attributes = { verb, resource, group: 'networking.istio.io' }
          assert.equal(await isAllowed('edgemesh-gateway', attributes), true, `${verb} ${resource}`)
        }
      }
    })

    test('may list and watch the one Secret that was named, and no other', async () => {
      await plane.call('GET', named('web-tls'), undefined, gateway)
      await plane.call('GET', `${named('web-tls')}&watch=true&timeoutSeconds=1`, undefined, gateway)
      for (const [method, path, body] of [
        ['GET', '/api/v1/secrets'],
        ['GET', shopSecrets],
        ['GET', named('other-tls')],
        ['GET', `${shopSecrets}/web-tls`],
        ['DELETE', `${shopSecrets}/web-tls`],
        ['GET', '/api/v1/namespaces/kubeedge/secrets?fieldSelector=metadata.name%3Dedgemesh-psk'],
        ['GET', '/api/v1/configmaps'],
        ['POST', '/api/v1/namespaces/default/services', { spec: { ports: [{ port: 80 }] } }],
      ] as const) {
        await assert.rejects(plane.call(method, path, body, gateway), / 403 /, `${method} ${path}`)
      }
    })
  })

  suite('the account of the agent', () => {
    before(async () => {
      const audience = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} }
      const answer = (await plane.call('POST', `${accountPath}/token`, audience)) as { status: { token: string } }
      agent = { name: 'edgemesh-agent', token: answer.status.token, groups: [] }
    })

    test('may list what the agent reads, in all namespaces, and follow DestinationRules', async () => {
      const slices = '/apis/discovery.k8s.io/v1beta1/endpointslices'
      for (const path of ['/api/v1/services', '/api/v1/endpoints', '/api/v1/nodes', '/api/v1/pods', slices]) {
        const list = (await plane.call('GET', path, undefined, agent)) as { readonly items: readonly unknown[] }
        assert.ok(Array.isArray(list.items), path)
      }
      // Their API is not installed yet, and would make this API server crash once it is followed.
      for (const verb of ['list', 'watch']) {
        const attributes = { verb, resource: 'destinationrules', group: 'networking.istio.io' }
        assert.equal(await isAllowed('edgemesh-agent', attributes), true, `${verb} destinationrules`)
      }
    })

    test('may do nothing else: no Secret, no single object, no change', async () => {
      const service = '/api/v1/namespaces/default/services/kubernetes'
      for (const [method, path, body] of [
        ['GET', '/api/v1/secrets'],
        ['GET', '/api/v1/namespaces/kubeedge/secrets/edgemesh-psk'],
        ['GET', '/api/v1/namespaces/default/pods/web-0'],
        ['GET', '/apis/networking.istio.io/v1/gateways'],
        ['GET', '/api/v1/configmaps'],
        ['GET', '/api/v1/namespaces'],
        ['GET', service],
        ['PATCH', service, { metadata: { labels: { a: 'b' } } }],
        ['DELETE', service],
        ['POST', '/api/v1/namespaces/default/services', { spec: { ports: [{ port: 80 }] } }],
        ['POST', `${accountPath}/token`, { spec: {} }],
        ['PATCH', rolePath, { rules: [] }],
      ] as const) {
        await assert.rejects(plane.call(method, path, body, agent), / 403 /, `${method} ${path}`)
      }
    })

    test('is all that following the API takes', async (t) => {
      const { catalog, status } = await follow(t)
      await soon(() => assert.ok(catalog.isListed, JSON.stringify(status())))
      await soon(() => {
        const states = status().resources.map(({ kind, apiVersion, state }) => `${kind} ${apiVersion} ${state}`)
        assert.deepEqual(states.sort(), [
          // Their API is installed later; with the right to list them the answer is that they are not there.
          'destinationRules networking.istio.io/v1 waiting',
          'endpointSlices discovery.k8s.io/v1beta1 watching',
          'nodes v1 watching',
          'pods v1 watching',
          'services v1 watching',
        ])
      })
      const rules = status().resources.find(({ kind }) => kind === 'destinationRules')
      assert.match(rules?.notOffered ?? '', /404/)
      assert.ok(catalog.current.services.has('default/kubernetes'))
      await plane.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-a1' } })
      await soon(() => assert.ok(catalog.current.nodes.has('edge-a1')))
    })

    suite('has no right too many:', () => {
      for (const [resource, kind] of [
        ['services', 'services'],
        ['nodes', 'nodes'],
        ['endpointslices', 'endpointSlices'],
        ['pods', 'pods'],
      ] as const) {
        for (const verb of ['list', 'watch']) {
          test(`without ${verb} on ${resource} the agent cannot follow them`, async (t) => {
            // The older kind must not stand in.
            await restrictRole(t, resource === 'endpointslices' ? [resource, 'endpoints'] : [resource], verb)
            const { status } = await follow(t)
            await soon(() => {
              const { state, lastError, notOffered } = status().resources.find((each) => each.kind === kind) ?? {}
              assert.equal(state, 'waiting', JSON.stringify(status()))
              assert.match(lastError ?? notOffered ?? '', /403|forbidden/i)
            })
          })
        }
      }

      test('without list on destinationrules the agent does not even learn whether there are any', async (t) => {
        await restrictRole(t, ['destinationrules'], 'list')
        const { status } = await follow(t)
        await soon(() => {
          const { notOffered } = status().resources.find(({ kind }) => kind === 'destinationRules') ?? {}
          assert.match(notOffered ?? '', /403/, JSON.stringify(status()))
        })
      })

      test('endpoints are what is followed where there are no EndpointSlices for us', async (t) => {
        await restrictRole(t, ['endpointslices'], 'list')
        const { catalog, status } = await follow(t)
        await soon(() => assert.ok(catalog.isListed, JSON.stringify(status())))
        await soon(() => {
          const followed = status().resources.find(({ kind }) => kind === 'endpointSlices')
          assert.deepEqual([followed?.apiVersion, followed?.state], ['v1', 'watching'])
        })
      })
    })
  })

  suite('the Istio kinds', () => {
    before(async () => {
      const definitions = await printManifests('--role', 'crds')
      for (const definition of definitions) await createObject(plane, definition)
      for (const definition of definitions) await soon(async () => await assertServed(definition))
    })

    test('are served in both versions', async () => {
      for (const version of ['v1alpha3', 'v1beta1']) {
        const path = `/apis/networking.istio.io/${version}`
        const { resources } = (await plane.call('GET', path)) as { readonly resources: readonly { name: string }[] }
        const names = resources.map(({ name }) => name).filter((name) => !name.includes('/'))
        assert.deepEqual(names.sort(), ['destinationrules', 'gateways', 'virtualservices'])
      }
    })

    test('have structural schemas, so that the API server really checks and prunes by them', async () => {
      for (const definition of await printManifests('--role', 'crds')) {
        const types = (await conditionsOf(definition)).filter(({ status }) => status === 'True').map(({ type }) => type)
        assert.deepEqual(types.sort(), ['Established', 'NamesAccepted'])
      }
    })
  })

  // Of Istio's kinds the API server of the tests takes the definitions but no object: reading the metadata of any
  // custom resource crashes Kubernetes 1.20 when it is compiled with Go 1.18 or later. test/examples.test.ts checks them.
  const isIstio = ({ apiVersion }: KubeObject) => apiVersion.startsWith('networking.istio.io/')

  suite('the API server takes as it is', () => {
    for (const name of readdirSync(new URL('examples/', root)).filter((file) => file.endsWith('.yaml'))) {
      test(`examples/${name}`, async () => {
        const all = readObjects(readFileSync(new URL(`examples/${name}`, root), 'utf8'))
        const objects = all.filter((object) => !isIstio(object))
        for (const object of objects) await createObject(plane, object)
        await deleteObjects(plane, objects)
      })
    }
  })

  /** Follows the API in the name of the agent's account. */
  async function follow(t: TestContext) {
    const kubeConfig = await plane.writeKubeconfig('edgemesh-agent', { token: agent.token })
    const text = `kind: EdgeMeshAgent\nkubeAPIConfig: { kubeConfig: ${kubeConfig} }`
    const { kubeAPIConfig } = parseConfig('agent', text, 'edgemesh-agent.yaml', { NODE_NAME: 'edge-a1' }).config
    const catalog = createCatalog()
    const source = startApiSource({
      config: kubeAPIConfig,
      env: {},
      kinds: agentKinds,
      nodeName: 'edge-a1',
      sink: catalog,
      logger: silentLogger,
      metrics: createMetrics(),
      userAgent: 'edgemesh-test',
      timing: { retry: { firstMs: 50, maxMs: 100, jitter: 0 }, recheckMs: 200 },
    })
    t.after(async () => await source[Symbol.asyncDispose]())
    return { catalog, status: (): ApiStatus => source.status() }
  }

  /** Takes one verb on these resources away from the shipped role until the test ends. */
  async function restrictRole(t: TestContext, resources: readonly string[], verb: string): Promise<void> {
    const { rules } = oneOf('ClusterRole', printed) as unknown as {
      readonly rules: readonly {
        readonly apiGroups: string[]
        readonly resources: string[]
        readonly verbs: string[]
      }[]
    }
    const restricted = rules.flatMap(({ apiGroups, resources: granted, verbs }) =>
      granted.map((resource) => ({
        apiGroups,
        resources: [resource],
        verbs: resources.includes(resource) ? verbs.filter((each) => each !== verb) : verbs,
      })),
    )
    const usable = restricted.filter(({ verbs }) => verbs.length > 0)
    t.after(async () => await setRules(rules, 200))
    await setRules(usable, 403)

    async function setRules(next: unknown, expected: 200 | 403): Promise<void> {
      await plane.call('PATCH', rolePath, { rules: next })
      // The API server follows its own roles with a moment's delay.
      await soon(async () => {
        for (const resource of resources) assert.equal(await statusOf(resource, verb), expected)
      })
    }
  }

  /** How the API server answers the agent's account. */
  async function statusOf(resource: string, verb: string): Promise<200 | 403> {
    const group = groups[resource] ?? ''
    return (await isAllowed('edgemesh-agent', { verb, resource, group })) ? 200 : 403
  }

  /** Whether the role of an account grants something. */
  async function isAllowed(account: string, resourceAttributes: object): Promise<boolean> {
    const review = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: { user: `system:serviceaccount:kubeedge:${account}`, resourceAttributes },
    }
    const path = '/apis/authorization.k8s.io/v1/subjectaccessreviews'
    const { status } = (await plane.call('POST', path, review)) as { readonly status: { readonly allowed: boolean } }
    return status.allowed
  }

  async function assertServed(definition: KubeObject): Promise<void> {
    const established = (await conditionsOf(definition)).find(({ type }) => type === 'Established')
    assert.equal(established?.status, 'True')
  }

  async function conditionsOf(definition: KubeObject) {
    const { status } = (await plane.call('GET', pathOf(definition))) as {
      readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
    }
    return status?.conditions ?? []
  }
}
