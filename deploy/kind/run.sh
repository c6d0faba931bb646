#!/usr/bin/env bash
# Pointsman in a cluster of kind's: makes the cluster, builds and loads the images, installs, applies deploy/kind/scenario.yaml
# and asks it a question. Run again, it does what is missing. `kind delete cluster --name pointsman` takes all of it away.
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=${CLUSTER:-pointsman}
envoy=${ENVOY_IMAGE:-envoyproxy/envoy:distroless-v1.40-latest}
gateway_api=${GATEWAY_API:-https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/standard-install.yaml}
port=${PORT:-8080}

for tool in docker kind kubectl helm curl; do
  command -v "$tool" > /dev/null || { echo "$0: needs $tool" >&2; exit 2; }
done

if ! kind get clusters | grep -qx "$cluster"; then
  kind create cluster --name "$cluster" --config deploy/kind/cluster.yaml --wait 120s
fi
export KUBECONFIG
KUBECONFIG=$(mktemp)
forward=
# shellcheck disable=SC2329 # by the trap
clean_up() {
  [ -z "$forward" ] || kill "$forward" 2> /dev/null || true
  rm -f "$KUBECONFIG"
}
trap clean_up EXIT
kind export kubeconfig --name "$cluster" --kubeconfig "$KUBECONFIG"

docker build -t pointsman:dev -f deploy/images/pointsman.Dockerfile .
docker build -t pointsman-simulator:dev -f deploy/images/simulator.Dockerfile .
docker build -t pointsman-lora-syncer:dev -f deploy/images/lora-syncer.Dockerfile .
docker build -t pointsman-envoy:dev -f envoy/Dockerfile --build-arg "BASE=$envoy" .
kind load docker-image --name "$cluster" pointsman:dev pointsman-simulator:dev pointsman-lora-syncer:dev pointsman-envoy:dev

kubectl apply --server-side -f "$gateway_api"
helm upgrade --install pointsman deploy/helm/pointsman --namespace pointsman-system --create-namespace \
  --set image.tag=dev --set envoy.image=pointsman-envoy:dev --wait --timeout 3m

kubectl apply -f deploy/kind/scenario.yaml
kubectl rollout status deployment/llama --timeout=3m
# kind has no load balancer, so that the Gateway gets no address; its Envoys are there all the same.
kubectl wait deployment/inference-gateway-pointsman --for=create --timeout=60s
kubectl rollout status deployment/inference-gateway-pointsman --timeout=3m
kubectl rollout status deployment/llama-picker --timeout=3m

kubectl port-forward service/inference-gateway-pointsman "$port:80" > /dev/null &
forward=$!
curl --silent --show-error --fail-with-body --retry 30 --retry-delay 1 --retry-all-errors \
  "http://127.0.0.1:$port/v1/completions" -H 'Content-Type: application/json' -d '{
    "model": "food-review",
    "prompt": "Write as if you were a critic: San Francisco",
    "max_tokens": 100,
    "temperature": 0
  }'
echo
kubectl exec -n pointsman-system deployment/pointsman -- pointsman status
