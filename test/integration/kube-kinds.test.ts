/** DestinationRules and Pods, which not every cluster offers and of which not all are followed. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { ApiDouble, DoubleHabits } from './support/api-double.ts'
import { nodeObject, paths, podObject, ruleObject, serviceObject, sliceObject } from './support/api-objects.ts'
import { type FollowOptions, followDouble, until } from './support/api-source.ts'

const kinds = ['nodes', 'services', 'endpointSlices', 'destinationRules', 'pods'] as const
const basic = [paths.services, paths.nodes, paths.slicesV1]
const ruled = [...basic, paths.rulesV1, paths.pods]

const subsets = [{ name: 'v1', labels: { version: 'v1' } }]
const randomly = { host: 'web', trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } }

const followAll = (options: FollowOptions) =>
  followDouble({
    ...options,
    source: { kinds, nodeName: 'edge-0', ...options.source },
    catalog: { awaits: ['services', 'endpointSlices', 'nodes', 'destinationRules'], ...options.catalog },
  })
type Site = Awaited<ReturnType<typeof followAll>>

function putShop(double: ApiDouble): void {
  double.put(paths.services, serviceObject('web'))
  double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1', '10.0.0.2']))
}

const policyOf = ({ catalog }: Site) => {
  const web = catalog.current.services.get('shop/web')
  return web && catalog.current.destinationRulesOf(web)[0]?.trafficPolicy.loadBalancer?.kind
}
const knownPods = ({ catalog }: Site, names = ['web-0', 'web-1', 'web-2']) =>
  names.filter((name) => catalog.current.podOf('shop', name) !== undefined).join()

suite('DestinationRules', () => {
  for (const [path, version] of [
    [paths.rulesV1, 'v1'],
    [paths.rulesV1beta1, 'v1beta1'],
    [paths.rulesV1alpha3, 'v1alpha3'],
  ] as const) {
    test(`are followed in version ${version} where that is the newest`, async () => {
      await using site = await followAll({
        served: [...basic, path, ...(version === 'v1beta1' ? [paths.rulesV1alpha3] : [])],
        prepare: (double) => {
          putShop(double)
          double.put(path, ruleObject('any', randomly))
        },
      })
      await site.synced()
      assert.equal(policyOf(site), 'random')
      assert.equal(site.resource('destinationRules')?.apiVersion, `networking.istio.io/${version}`)
      site.double.put(path, ruleObject('any', { ...randomly, trafficPolicy: {} }))
      await until(() => policyOf(site) === undefined)
      assert.deepEqual(site.warnings(), [])
    })
  }

  test('that are not installed keep nobody waiting, are missed once, and are found when they come', async () => {
    await using site = await followAll({ served: [...basic, paths.pods], prepare: putShop })
    await site.synced()
    await until(() => site.double.lists(paths.rulesV1) > 3)
    assert.match(site.resource('destinationRules')?.notOffered ?? '', /404/)
    assert.equal(site.logged.filter(({ message }) => message.includes('does not offer')).length, 1)
    assert.deepEqual(site.warnings(), [])
    site.double.serve(paths.rulesV1beta1)
    site.double.put(paths.rulesV1beta1, ruleObject('any', randomly))
    await until(() => policyOf(site) === 'random')
    await until(() => site.resource('destinationRules')?.notOffered === undefined)
    assert.equal(site.resource('destinationRules')?.apiVersion, 'networking.istio.io/v1beta1')
    site.double.remove(paths.rulesV1beta1, 'any', 'shop')
    await until(() => policyOf(site) === undefined)
  })

  for (const verb of ['list', 'watch'] as const) {
    test(`are not followed without the right to ${verb} them, which status says, and are once it is there`, async () => {
      let isForbidden = true
      await using site = await followAll({
        served: ruled,
        prepare: (double) => {
          putShop(double)
          double.put(paths.rulesV1, ruleObject('any', { ...randomly, trafficPolicy: {} }))
          double.fault = ({ path, isWatch }) =>
            isForbidden && path.endsWith('/destinationrules') && isWatch === (verb === 'watch')
              ? { kind: 'status', status: 403 }
              : undefined
        },
      })
      await site.synced()
      await until(() => {
        const { state, notOffered, lastError } = site.resource('destinationRules') ?? {}
        return state === 'waiting' && /403/.test(notOffered ?? lastError ?? '')
      })
      assert.equal(site.double.watches(paths.rulesV1), 0)
      isForbidden = false
      site.double.put(paths.rulesV1, ruleObject('any', randomly))
      await until(() => policyOf(site) === 'random')
      await until(() => site.resource('destinationRules')?.state === 'watching')
    })
  }

  test('that are taken away with their API stay in force, as everything that goes away does', async () => {
    await using site = await followAll({
      served: ruled,
      prepare: (double) => {
        putShop(double)
        double.put(paths.rulesV1, ruleObject('any', randomly))
      },
    })
    await until(() => site.double.watches(paths.rulesV1) === 1)
    site.double.unserve(paths.rulesV1)
    site.double.endWatches(paths.rulesV1, 'by reset')
    await until(() => site.resource('destinationRules')?.state === 'waiting')
    assert.equal(policyOf(site), 'random')
  })

  test('that the API fails to give keep nobody waiting, and are there as soon as it gives them', async () => {
    for (const fault of [
      { kind: 'status', status: 500 },
      { kind: 'body', text: 'conversion webhook' },
    ] as const) {
      await using site = await followAll({
        served: ruled,
        prepare: (double) => {
          putShop(double)
          double.put(paths.rulesV1, ruleObject('any', randomly))
          double.fault = ({ path }) => (path === paths.rulesV1 ? fault : undefined)
        },
      })
      await site.synced()
      assert.equal(policyOf(site), undefined)
      assert.notEqual(site.resource('destinationRules')?.lastError, undefined)
      site.double.fault = () => undefined
      await until(() => policyOf(site) === 'random')
    }
  })

  test('with policies that nobody knows do what can be done, and what is left out is said once', async () => {
    const odd = {
      host: 'web',
      trafficPolicy: { loadBalancer: { simple: 'QUANTUM' }, tls: { mode: 'ISTIO_MUTUAL' } },
      subsets: 'all of them',
    }
    await using site = await followAll({
      served: ruled,
      prepare: (double) => {
        putShop(double)
        double.put(paths.rulesV1, ruleObject('odd', odd))
        double.put(paths.rulesV1, ruleObject('plain', { host: 'api' }))
      },
    })
    await site.synced()
    assert.deepEqual([...site.catalog.current.destinationRules.keys()], ['shop/odd', 'shop/plain'])
    const { malformed, incomplete } = site.resource('destinationRules') ?? {}
    assert.deepEqual([malformed, incomplete], [0, 1])
    assert.deepEqual(site.warnings(), [
      'destinationRules shop/odd: spec.trafficPolicy.tls: is not supported, found {"mode":"ISTIO_MUTUAL"}; ' +
        'spec.trafficPolicy.loadBalancer.simple: is not supported, found "QUANTUM"; ' +
        'spec.subsets: must be a list, found "all of them"',
    ])
    site.double.put(paths.rulesV1, { ...ruleObject('odd', odd), metadata: { name: 'odd', namespace: 'shop', n: 2 } })
    site.double.put(paths.rulesV1, ruleObject('plain', { host: 'api', trafficPolicy: { loadBalancer: null } }))
    site.double.put(paths.rulesV1, ruleObject('odd', randomly))
    await until(() => policyOf(site) === 'random')
    assert.deepEqual([site.warnings().length, site.resource('destinationRules')?.incomplete], [1, 0])
  })
})

const metaServer: DoubleHabits = { ignoresLimit: true, oddSelfLink: true, withoutHistory: true }
for (const [what, options] of [
  ['an API server', {}],
  ['metaServer', { habits: metaServer, config: ({ url }) => ({ metaServer: { server: url } }) }],
] as const satisfies readonly (readonly [string, FollowOptions])[]) {
  suite(`Pods of ${what}`, () => {
    const putPods = (double: ApiDouble) => {
      putShop(double)
      double.put(paths.nodes, nodeObject('edge-0'))
      double.put(paths.rulesV1, ruleObject('any', randomly))
      double.put(paths.pods, podObject('web-0', 'edge-0', '10.0.0.1', { version: 'v1' }))
      double.put(paths.pods, podObject('web-1', 'edge-1', '10.0.0.2', { version: 'v2' }))
    }

    test('are those of the own node', async () => {
      await using site = await followAll({ ...options, served: ruled, prepare: putPods })
      await until(() => knownPods(site) === 'web-0')
      assert.deepEqual(site.catalog.current.podOf('shop', 'web-0'), {
        namespace: 'shop',
        name: 'web-0',
        labels: { version: 'v1' },
        nodeName: 'edge-0',
        podIPs: ['10.0.0.1'],
        ready: true,
      })
      assert.equal(site.resource('pods')?.selection, 'spec.nodeName=edge-0')
      await until(() => site.double.watches(paths.pods) === 1)
      site.double.put(paths.pods, podObject('web-2', 'edge-1', '10.0.0.3'))
      site.double.put(paths.pods, podObject('web-2', 'edge-0', '10.0.0.3'))
      await until(() => knownPods(site) === 'web-0,web-2')
      site.double.remove(paths.pods, 'web-2', 'shop')
      await until(() => knownPods(site) === 'web-0')
    })

    test('are all while a rule tells Pods apart by their labels, with no moment in which one is missing', async () => {
      await using site = await followAll({ ...options, served: ruled, prepare: putPods })
      await until(() => knownPods(site) === 'web-0')
      const missed: number[] = []
      using _subscription = site.catalog.subscribe(({ sequence, podOf }) => {
        if (podOf('shop', 'web-0') === undefined) missed.push(sequence)
      })
      site.double.put(paths.rulesV1, ruleObject('any', { ...randomly, subsets }))
      await until(() => knownPods(site) === 'web-0,web-1')
      await until(() => site.source.status().resources.filter(({ kind }) => kind === 'pods').length === 1)
      assert.equal(site.resource('pods')?.selection, 'all')
      site.double.put(paths.rulesV1, ruleObject('any', randomly))
      await until(() => knownPods(site) === 'web-0')
      await until(() => site.resource('pods')?.selection === 'spec.nodeName=edge-0')
      assert.deepEqual(missed, [])
    })

    test('are asked for at once as the rules want them, and never otherwise', async () => {
      await using site = await followAll({
        ...options,
        served: ruled,
        prepare: (double) => {
          putPods(double)
          double.put(paths.rulesV1, ruleObject('any', { ...randomly, subsets }))
        },
      })
      await until(() => knownPods(site) === 'web-0,web-1')
      const asked = site.double.requests.filter(({ path }) => path === paths.pods)
      assert.deepEqual([...new Set(asked.map(({ query }) => query.get('fieldSelector')))], [null])
    })
  })
}

suite('Pods', () => {
  test('are those of the own node when the rules do not come, for which nobody waits long', async () => {
    await using site = await followAll({
      served: ruled,
      prepare: (double) => {
        putShop(double)
        double.put(paths.pods, podObject('web-0', 'edge-0', '10.0.0.1'))
        double.fault = ({ path }) => (path === paths.rulesV1 ? { kind: 'stall' } : undefined)
      },
    })
    await until(() => knownPods(site) === 'web-0')
  })

  test('that may not be read are not missed, and those of an earlier run stay known', async () => {
    await using site = await followAll({
      served: ruled,
      prepare: (double) => {
        putShop(double)
        double.fault = ({ path }) => (path === paths.pods ? { kind: 'status', status: 403 } : undefined)
      },
    })
    site.catalog.prime({
      pods: [{ namespace: 'shop', name: 'web-0', labels: {}, podIPs: ['10.0.0.1'], ready: true }],
    })
    await until(() => site.resource('pods')?.notOffered !== undefined)
    await site.synced()
    assert.equal(knownPods(site), 'web-0')
    assert.deepEqual(site.warnings(), [])
  })

  test('and everything else end with their source', async () => {
    await using site = await followAll({ served: ruled, prepare: putShop })
    await until(() => ruled.every((path) => site.double.watches(path) === 1))
    await site.source[Symbol.asyncDispose]()
    await until(() => ruled.every((path) => site.double.watches(path) === 0))
  })
})

suite('Secrets', () => {
  const gatewayKinds = ['services', 'endpointSlices', 'nodes', 'gateways', 'virtualServices', 'secrets'] as const
  const gateways = paths.gatewaysV1
  const served = [...basic, gateways, paths.virtualServicesV1, paths.secrets]
  const secret = (name: string, key: string, namespace = 'shop') => ({ metadata: { name, namespace }, data: { key } })
  const gateway = (name: string, ...credentials: readonly string[]) => {
    const servers = credentials.map((credentialName, at) => ({
      port: { number: 443 + at, protocol: 'HTTPS', name: `https-${at}` },
      hosts: ['*'],
      tls: { mode: 'SIMPLE', credentialName },
    }))
    return { metadata: { name, namespace: 'shop' }, spec: { selector: {}, servers } }
  }
  const known = ({ catalog }: Site) =>
    [...catalog.current.secrets.values()]
      .map(({ namespace, name, data }) => `${namespace}/${name} ${data['key']}`)
      .sort()

  test('are those that Gateways name, asked for one by one, and all others stay unseen', async () => {
    await using site = await followAll({
      served,
      source: { kinds: gatewayKinds },
      prepare: (double) => {
        putShop(double)
        for (const name of ['cert', 'other', 'token']) double.put(paths.secrets, secret(name, 'QQ=='))
        double.put(paths.secrets, secret('cert', 'Qg==', 'elsewhere'))
        double.put(gateways, gateway('front', 'cert', 'missing'))
      },
      catalog: { awaits: ['gateways', 'services'] },
    })
    await until(
      () => known(site).join() === 'shop/cert QQ==',
      () => known(site),
    )
    await until(() => site.double.watches(paths.secrets) === 4)
    site.double.put(paths.secrets, secret('missing', 'Qw=='))
    site.double.put(paths.secrets, secret('cert', 'RA=='))
    await until(
      () => known(site).join() === 'shop/cert RA==,shop/missing Qw==',
      () => known(site),
    )
    site.double.put(gateways, gateway('front', 'other'))
    await until(
      () => known(site).join() === 'shop/other QQ==',
      () => known(site),
    )
    await until(() => site.double.watches(paths.secrets) === 2)
    site.double.remove(gateways, 'front', 'shop')
    await until(
      () => known(site).length === 0,
      () => known(site),
    )
    await until(() => site.double.watches(paths.secrets) === 0)
    const asked = site.double.requests.filter(({ path }) => path.endsWith('/secrets'))
    assert.ok(asked.every(({ path }) => path === '/api/v1/namespaces/shop/secrets'))
    const selectors = new Set(asked.map(({ query }) => query.get('fieldSelector')))
    const names = ['cert', 'cert-cacert', 'missing', 'missing-cacert', 'other', 'other-cacert']
    assert.deepEqual(
      [...selectors].sort(),
      names.map((name) => `metadata.name=${name}`),
    )
    assert.equal(site.catalog.objects().secrets, undefined)
  })
})
