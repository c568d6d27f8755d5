import { isAbsolute } from 'node:path'
import * as z from 'zod'
import { runCommand } from '../../../linux/index.ts'
import type { KubeconfigExec } from './kubeconfig-file.ts'

/** What a plugin answers: `status` of a client.authentication.k8s.io ExecCredential. */
const answerSchema = z.object({
  status: z.object({
    token: z.string().optional(),
    clientCertificateData: z.string().optional(),
    clientKeyData: z.string().optional(),
    expirationTimestamp: z.string().optional(),
  }),
})

/** Credentials of a plugin. */
export interface PluginCredentials {
  readonly token: string | undefined
  readonly certificate: { readonly cert: string; readonly key: string } | undefined
  /** Milliseconds since the epoch; infinite when the plugin sets no end. */
  readonly expiresAt: number
}

/** A credential plugin may have to ask a server of its own. */
const pluginTimeoutMs = 30_000

/** Runs a credential plugin as client-go does; `folder` is where a command with a relative path is. */
export async function askCredentialPlugin(exec: KubeconfigExec, folder: string): Promise<PluginCredentials> {
  const { apiVersion, command, args, env } = exec
  const info = JSON.stringify({ apiVersion, kind: 'ExecCredential', spec: { interactive: false } })
  const isPath = command.includes('/') && !isAbsolute(command)
  const output = await runCommand(
    {
      command: isPath ? `${folder}/${command}` : command,
      arguments: args ?? [],
      env: { ...Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])), KUBERNETES_EXEC_INFO: info },
      action: `run the credential plugin ${command}`,
    },
    AbortSignal.timeout(pluginTimeoutMs),
  )
  const { status } = answerSchema.parse(JSON.parse(output))
  const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = status
  return {
    token,
    certificate: cert !== undefined && key !== undefined ? { cert, key } : undefined,
    expiresAt: expirationTimestamp === undefined ? Number.POSITIVE_INFINITY : Date.parse(expirationTimestamp),
  }
}
