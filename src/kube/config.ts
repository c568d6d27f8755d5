import * as z from 'zod'

/** `kubeAPIConfig`: where Services, endpoints and the rest come from. */
export const kubeSchema = z.strictObject({
  manifests: z
    .string()
    .regex(/^(\/.*)?$/)
    .default('')
    .describe('Folder of YAML manifests to use instead of an API server; watched for changes. Absolute path.')
    .meta({ expects: 'an absolute path', examples: ['/etc/edgemesh/manifests'] }),
  master: z
    .string()
    .regex(/^(https?:\/\/[^\s/]+.*)?$/)
    .default('')
    .describe('URL of the kube-apiserver; overrides detection, and the server that a kubeconfig names.')
    .meta({ expects: 'an http or https URL', examples: ['https://192.0.2.10:6443'] }),
  kubeConfig: z
    .string()
    .regex(/^(\/.*)?$/)
    .default('')
    .describe('Kubeconfig file whose current context says where the API server is; overrides detection. Absolute path.')
    .meta({ expects: 'an absolute path', examples: ['/root/.kube/config'] }),
  contentType: z
    .string()
    .default('')
    .describe('Encoding that the Go system asks the API server for.')
    .meta({ ignored: 'JSON is always used' }),
  qps: z.number().positive().default(100).describe('Requests a second to the API, on average.'),
  burst: z.int().positive().default(200).describe('Requests to the API in a burst.'),
  recheckPeriod: z
    .int()
    .min(1)
    .max(86_400)
    .default(60)
    .describe('Seconds after which a kind that the API does not offer, such as DestinationRules, is asked for again.'),
  deleteKubeConfig: z
    .boolean()
    .default(false)
    .describe('Whether the Go system deletes the kubeconfig it generates.')
    .meta({ ignored: 'no kubeconfig is ever written' }),
  mode: z
    .string()
    .optional()
    .describe('Internal value of the Go system.')
    .meta({ ignored: 'the mode follows from the other keys' }),
  metaServer: z
    .strictObject({
      server: z
        .string()
        .regex(/^https?:\/\/[^\s/]+.*$/)
        .default('http://127.0.0.1:10550')
        .describe("URL of KubeEdge's metaServer.")
        .meta({ expects: 'an http or https URL' }),
      security: z
        .strictObject({
          requireAuthorization: z.boolean().default(false).describe('Use https and authenticate to metaServer.'),
          insecureSkipTLSVerify: z.boolean().default(false).describe("Do not verify metaServer's certificate."),
          tlsCaFile: z
            .string()
            .startsWith('/')
            .default('/etc/edgemesh/metaserver/rootCA.crt')
            .describe('CA of metaServer.'),
          tlsCertFile: z
            .string()
            .startsWith('/')
            .default('/etc/edgemesh/metaserver/server.crt')
            .describe('Client certificate.'),
          tlsPrivateKeyFile: z
            .string()
            .startsWith('/')
            .default('/etc/edgemesh/metaserver/server.key')
            .describe('Client key.'),
        })
        .prefault({})
        .describe('How to authenticate to metaServer.'),
    })
    .prefault({})
    .describe("KubeEdge's API on the node, used when it answers and nothing else is configured."),
})

/** Validated `kubeAPIConfig`. */
export type KubeConfig = z.output<typeof kubeSchema>
