package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	plugin "k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/plugin/v1beta1"
)

const allHealthy = -1

// serveFakeDevices registers COUNT devices of RESOURCE with the kubelet of this mount namespace, so that the real
// scheduler and kubelet count GPUs that the machine does not have. A container finds what it got in
// NVIDIA_VISIBLE_DEVICES, as with NVIDIA's plugin. SIGUSR1 makes the first device unhealthy, SIGUSR2 heals it.
func serveFakeDevices(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: fake-gpu-plugin RESOURCE COUNT, got %q", args)
	}
	resource := args[0]
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("count of %s: %w", resource, err)
	}
	socket := pluginapi.DevicePluginPath + "fake-" + strings.ReplaceAll(resource, "/", "-") + ".sock"
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	stub := plugin.NewDevicePluginStub(klog.Background(), fakeDevices(count, allHealthy), socket, resource, false, false)
	stub.SetAllocFunc(visibleDevices)
	if err := stub.Start(ctx); err != nil {
		return err
	}
	if err := stub.Register(ctx, pluginapi.KubeletSocket, resource, ""); err != nil {
		return err
	}
	// A restarted kubelet forgets its plugins: register again when its socket is made anew.
	go stub.Watch(ctx, pluginapi.KubeletSocket, resource, "")

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM)
	for received := range signals {
		switch received {
		case syscall.SIGUSR1:
			stub.Update(fakeDevices(count, 0))
		case syscall.SIGUSR2:
			stub.Update(fakeDevices(count, allHealthy))
		default:
			return nil
		}
	}
	return nil
}

func fakeDevices(count, unhealthy int) []*pluginapi.Device {
	devices := make([]*pluginapi.Device, 0, count)
	for i := range count {
		health := pluginapi.Healthy
		if i == unhealthy {
			health = pluginapi.Unhealthy
		}
		devices = append(devices, &pluginapi.Device{ID: fmt.Sprintf("GPU-fake-%d", i), Health: health})
	}
	return devices
}

func visibleDevices(request *pluginapi.AllocateRequest, _ map[string]*pluginapi.Device) (*pluginapi.AllocateResponse, error) {
	response := &pluginapi.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &pluginapi.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return response, nil
}
