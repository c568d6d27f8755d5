import * as z from 'zod'

/** `kubeAPIConfig`: where Services, endpoints and the rest come from. */
export const kubeSchema = z.strictObject({
  manifests: z
    .string()
    .default('')
    .describe('Folder of YAML manifests to use instead of an API server; watched for changes. Absolute path.'),
  master: z.string().default('').describe('URL of the kube-apiserver; overrides detection.'),
  kubeConfig: z.string().default('').describe('Absolute path of a kubeconfig file.'),
  contentType: z.string().default('').describe('Accepted for compatibility; JSON is always used.'),
  qps: z.number().positive().default(100).describe('Requests a second to the API, on average.'),
  burst: z.int().positive().default(200).describe('Requests to the API in a burst.'),
  deleteKubeConfig: z.boolean().default(false).describe('Accepted for compatibility; no kubeconfig is ever written.'),
  metaServer: z
    .strictObject({
      server: z.string().default('http://127.0.0.1:10550').describe("URL of KubeEdge's metaServer."),
      security: z
        .strictObject({
          requireAuthorization: z.boolean().default(false).describe('Use https and authenticate to metaServer.'),
          insecureSkipTLSVerify: z.boolean().default(false).describe("Do not verify metaServer's certificate."),
          tlsCaFile: z.string().default('/etc/edgemesh/metaserver/rootCA.crt').describe('CA of metaServer.'),
          tlsCertFile: z.string().default('/etc/edgemesh/metaserver/server.crt').describe('Client certificate.'),
          tlsPrivateKeyFile: z.string().default('/etc/edgemesh/metaserver/server.key').describe('Client key.'),
        })
        .prefault({}),
    })
    .prefault({}),
})

/** Validated `kubeAPIConfig`. */
export type KubeConfig = z.output<typeof kubeSchema>
